//! Housekeeping against a model, and against disks that fail.
