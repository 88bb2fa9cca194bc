"""How each kind's fields are called in the other version: for each a function `up` (v1beta1 to v1beta2) and `down`.

They say what corresponds, and no more. What the other version has no place for, what it defaults, and how the lost
comes back is `hosted_cp.api.conversion`'s, the same for all. So these functions may drop what they do not understand,
and they must not raise: an object may be older than any schema.

A tree is an object with its metadata cut down to `namespace` and the annotations in `ANNOTATIONS`, which stand for
fields of v1beta1. Functions return new trees and share what they do not change.
"""
