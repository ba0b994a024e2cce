"""Functions of images, by Keras's names."""

from __future__ import annotations

from fnn.ops import images, warping
from fnn.ops.table import Table, functions, rows

_TABLE: Table = {
    **rows(
        "(images, data_format=None)", "hsv_to_rgb rgb_to_grayscale rgb_to_hsv", images
    ),
    "resize(images, size, interpolation='bilinear', antialias=False, "
    "crop_to_aspect_ratio=False, pad_to_aspect_ratio=False, fill_mode='constant', "
    "fill_value=0.0, data_format=None)": images.resize,
    "scale_and_translate(images, output_shape, scale, translation, spatial_dims, method, "
    "antialias=True)": images.scale_and_translate,
    "pad_images(images, top_padding=None, left_padding=None, bottom_padding=None, "
    "right_padding=None, target_height=None, target_width=None, data_format=None)": (
        images.pad_images
    ),
    "crop_images(images, top_cropping=None, left_cropping=None, bottom_cropping=None, "
    "right_cropping=None, target_height=None, target_width=None, data_format=None)": (
        images.crop_images
    ),
    "extract_patches(images, size, strides=None, dilation_rate=1, padding='valid', "
    "data_format=None)": images.extract_patches,
    "extract_patches_3d(volumes, size, strides=None, dilation_rate=1, padding='valid', "
    "data_format=None)": images.extract_patches_3d,
    "ssim(image1, image2, max_val=1.0, filter_size=11, filter_sigma=1.5, k1=0.01, "
    "k2=0.03, data_format=None)": images.ssim,
    "map_coordinates(inputs, coordinates, order, fill_mode='constant', fill_value=0)": (
        warping.map_coordinates
    ),
    "affine_transform(images, transform, interpolation='bilinear', "
    "fill_mode='constant', fill_value=0, data_format=None)": warping.affine_transform,
    "perspective_transform(images, start_points, end_points, interpolation='bilinear', "
    "fill_value=0, data_format=None)": warping.perspective_transform,
    "gaussian_blur(images, kernel_size=(3, 3), sigma=(1.0, 1.0), data_format=None)": (
        warping.gaussian_blur
    ),
    "sobel_edges(images, data_format=None)": warping.sobel_edges,
    "elastic_transform(images, alpha=20.0, sigma=5.0, interpolation='bilinear', "
    "fill_mode='reflect', fill_value=0.0, seed=None, data_format=None)": (
        warping.elastic_transform
    ),
}

_MODULE = functions(__name__, _TABLE)
globals().update(_MODULE)
__all__ = list(_MODULE)
