"""The stacks on AWS, as code: two of them, in the sizes of `profile`."""
