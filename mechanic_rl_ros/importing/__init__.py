"""Reading policies that other software trained."""
