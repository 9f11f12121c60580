"""What is added to the task loss: the residual rate, equal odds, and adversaries."""
