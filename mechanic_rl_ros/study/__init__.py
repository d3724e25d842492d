"""Which optimizer learns best online, judged by success: the tuner against a grid of learning rates and against other tuners."""
