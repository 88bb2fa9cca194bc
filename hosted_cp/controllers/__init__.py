"""One module for each kind of the users: which events concern it, what a reconcile may know, which planner decides."""
