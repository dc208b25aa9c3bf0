"""Dialects of batch normalisation in forks of Caffe and in other frameworks: recognised, converted, converted back.

`caffebn.bn.dialects` is the public name.  Nothing is imported here: a plain net needs `signs` alone, and importing
caffebn has to be quick.
"""
