"""Small servers on 127.0.0.1 that speak the trackers' wire protocols, for tests and for `compare`."""
