"""Neptune and Comet on the thesis's nine criteria, by what their clients do here: probes, evidence, and a fold of it."""
