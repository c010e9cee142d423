"""What jobs showed, as strategies see it: how they went, how they ended, what they died of."""
