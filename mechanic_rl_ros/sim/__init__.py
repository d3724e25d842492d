"""The MuJoCo FR3: physics, cameras, joint trajectory controller, tasks and the offline environment."""
