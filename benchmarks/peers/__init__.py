"""The same networks in each library, as a user of that library would write them.

A module here has a table `RUNNERS`: the name of a workload -> a function of its data that returns
`epoch`, a function that trains for one epoch and returns the loss as a number (so that the work is
done when it returns). What cannot run raises ImportError or `SkipError`.
"""
