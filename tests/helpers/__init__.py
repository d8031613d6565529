"""What tests, benchmarks and attacks share: records, servers, data, and processes that are killed."""
