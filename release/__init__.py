"""What a release is published as, made from what lies in the checkout."""
