"""What a person sees: the scene as plain shapes, planned and executed paths, task overlays and pictures of episodes."""
