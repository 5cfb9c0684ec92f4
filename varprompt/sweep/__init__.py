"""Many runs: the cells of a table or grid, spread over GPUs, cores, a Ray cluster or SLURM."""
