//! Machine images.

mod deregister_image;
mod describe_images;
