"""Detect: from normal runs to a detector, from a detector to scores, from scores to alarms that name the sensors."""
