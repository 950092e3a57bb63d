import subprocess
import sys


def test_compile_kernels_leaves_nothing_to_compile():
    program = """
import io
import numpy as np
from PIL import Image
from fsf_core import masks
from fsf_core.masks import confusion, kernels
from fsf_core.masks.kernels import deflate, regions

loops = kernels.draw, kernels.measure, kernels.softmax_planes, kernels.grid_winners
loops += deflate._filter_rows, deflate._scan, deflate._code_lengths, deflate._emit
loops += kernels.count_cells, kernels.look_up_colours, regions._find
loops += regions._scan_rows, regions._end_scan, kernels.add_scores, kernels.write_winners
assert not any(loop.signatures for loop in loops)
masks.compile_kernels()
assert [len(loop.signatures) for loop in loops] == [1] * 15

buffer = np.frombuffer(b"." + np.zeros((2, 9, 9), np.float32).tobytes(), np.uint8)[1:].view(np.float32)
scores = buffer.reshape(2, 9, 9)  # read-only and misaligned, as a slice of an Arrow buffer can be
found = masks.make_mask(masks.softmax(scores)[:, 1:8, 2:], height_px=4, width_px=4)
class_map = np.frombuffer(found.class_map_HW.tobytes(), np.uint8).reshape(4, 4)
masks.find_regions(found, min_px=1)
masks.find_regions(masks.measure(class_map, num_classes=2), min_px=2)
masks.encode_png(class_map, masks.voc_palette(2))
encoded = io.BytesIO()
Image.fromarray(masks.voc_palette(2)[class_map]).save(encoded, "PNG")
label = masks.decode_label(encoded.getvalue(), palette_K3=masks.voc_palette(2), num_classes=2)
confusion.count(label, class_map, 2)
sides = masks.plan_side(9, window_px=9, overlap_px=2), masks.plan_side(12, window_px=9, overlap_px=3)
blend = masks.WindowBlend(*sides, num_classes=2, corners="half-pixel")
scan = masks.RowScan(width_px=11, num_classes=2, min_region_px=None)
for at in (0, 1):
    for _, rows in blend.add(0, at, masks.make_mask(scores, height_px=9, width_px=9).class_map_HW, scores):
        scan.add(rows[:, :11])
scan.end()
assert [len(loop.signatures) for loop in loops] == [1] * 15
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_load_kernels_leaves_nothing_to_compile_of_a_job_without_regions_and_labels() -> None:
    program = """
import numpy as np
from fsf_core import masks
from fsf_core.masks import kernels
from fsf_core.masks.kernels import deflate, regions

needed = kernels.draw, kernels.grid_winners, deflate._filter_rows, deflate._scan, deflate._emit
masks.load_kernels()
assert [len(loop.signatures) for loop in (*needed, regions._find, kernels.count_cells)] == [1] * 5 + [0] * 2

found = masks.make_mask(np.zeros((2, 9, 9), np.float32), height_px=4, width_px=4, logits=True)
masks.encode_png(found.class_map_HW, masks.voc_palette(2))
assert [len(loop.signatures) for loop in needed] == [1] * 5
"""
    subprocess.run([sys.executable, "-c", program], check=True)
