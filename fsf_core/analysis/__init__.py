"""What is computed from finished runs: figures first, files last. Knows runs; knows no Ray and no stages."""
