"""Who asked to be forgotten: the list, what it makes of a record, and the zones that are written anew."""
