"""Bad input of each kind, for the fuzzer."""
