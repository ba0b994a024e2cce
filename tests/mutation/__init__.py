"""Small faults put into fnn one at a time, to see that the tests find each of them."""
