"""What keeps the arm inside its limits: kinematics, FR3 limits, the commander."""
