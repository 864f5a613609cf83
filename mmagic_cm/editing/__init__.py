"""Zero-shot editing: linear measurement operators, and one loop that serves all of them."""

from .denoising import denoise_image, estimate_noise_level
from .interpolation import encode, interpolate, slerp
from .loop import edit
from .operators import Guide, Luminance, Mask, Operator, PatchMean, into_gamut
from .pictures import TASKS, Edited, edit_pictures
from .tasks import STROKE_LEVELS, colorize, inpaint, stroke_edit, super_resolve

__all__ = [
    'STROKE_LEVELS',
    'TASKS',
    'Edited',
    'Guide',
    'Luminance',
    'Mask',
    'Operator',
    'PatchMean',
    'colorize',
    'denoise_image',
    'edit',
    'edit_pictures',
    'encode',
    'estimate_noise_level',
    'inpaint',
    'interpolate',
    'into_gamut',
    'slerp',
    'stroke_edit',
    'super_resolve',
]
