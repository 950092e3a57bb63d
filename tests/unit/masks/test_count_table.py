import numpy as np

from fsf_core import masks


def test_count_table_equals_the_authors_output():
    table = masks.count_table(["background", "Sunburn", "Ulcer", "Wind scarring"], np.array([250000, 12144, 0, 1]))
    assert table.splitlines() == [
        "---------------------------------------------------------------",
        "|                      Key |           Value |           Ratio|",
        "---------------------------------------------------------------",
        "|               background |          250000 |          95.37%|",
        "---------------------------------------------------------------",
        "|                  Sunburn |           12144 |           4.63%|",
        "---------------------------------------------------------------",
        "|            Wind scarring |               1 |           0.00%|",
        "---------------------------------------------------------------",
    ]
