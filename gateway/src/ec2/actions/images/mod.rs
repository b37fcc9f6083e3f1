//! Machine images.

mod deregister_image;
mod describe_images;
#[cfg(test)]
mod examples;

#[cfg(test)]
pub(super) use examples::EXAMPLES;
