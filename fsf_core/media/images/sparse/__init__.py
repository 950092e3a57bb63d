"""A large JPEG, of which few pixels are wanted: the inverse transform runs only where one of them is.

Knows baseline JPEGs. Whatever is unusual or damaged is not decoded here, and no reason is given: the caller's decoder
for all pictures finds the pixels, or the reason.
"""
