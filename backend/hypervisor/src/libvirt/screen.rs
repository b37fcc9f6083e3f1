//! Screenshots: the picture that libvirt takes of a screen (PPM or PNG) as a JPEG. The picture is the
//! guest's: it is read strictly and within limits.

use jpeg_encoder::{ColorType, Encoder};

/// The widest and highest screen.
const SIDE: u16 = 4096;

const QUALITY: u8 = 75;

/// A picture: width, height, and three bytes a pixel.
struct Picture {
    width: u16,
    height: u16,
    rgb: Vec<u8>,
}

/// A JPEG of a picture, or what is wrong with it.
pub(super) fn to_jpeg(bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    let picture = if bytes.starts_with(b"\x89PNG") {
        read_png(bytes)?
    } else {
        read_ppm(bytes)?
    };
    let mut jpeg = Vec::new();
    Encoder::new(&mut jpeg, QUALITY)
        .encode(&picture.rgb, picture.width, picture.height, ColorType::Rgb)
        .map_err(|_| "the picture can't be encoded")?;
    Ok(jpeg)
}

fn side(number: u32) -> Result<u16, &'static str> {
    let side = u16::try_from(number).ok().filter(|n| (1..=SIDE).contains(n));
    side.ok_or("the screen's size is out of range")
}

/// Binary PPM of 8 bits a colour, as QEMU writes it: `P6`, width, height and 255, then the pixels.
fn read_ppm(bytes: &[u8]) -> Result<Picture, &'static str> {
    let mut rest = bytes.strip_prefix(b"P6").ok_or("not a PPM")?;
    let mut number = || {
        let white = rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
        let (_, after) = rest.split_at(white);
        let digits = after.iter().take_while(|b| b.is_ascii_digit()).count();
        if white == 0 || !(1..=5).contains(&digits) {
            return Err("not a PPM's head");
        }
        let (digits, after) = after.split_at(digits);
        rest = after;
        Ok(digits.iter().fold(0, |n, d| n * 10 + u32::from(d - b'0')))
    };
    let (width, height, most) = (side(number()?)?, side(number()?)?, number()?);
    if most != 255 {
        return Err("not 8 bits a colour");
    }
    let pixels = match rest {
        [b' ' | b'\n' | b'\t' | b'\r', pixels @ ..] => pixels,
        _ => return Err("not a PPM's head"),
    };
    if pixels.len() != usize::from(width) * usize::from(height) * 3 {
        return Err("not as many pixels as it says");
    }
    Ok(Picture {
        width,
        height,
        rgb: pixels.to_vec(),
    })
}

fn read_png(bytes: &[u8]) -> Result<Picture, &'static str> {
    let limits = png::Limits { bytes: 256 << 20 };
    let mut decoder = png::Decoder::new_with_limits(std::io::Cursor::new(bytes), limits);
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|_| "not a PNG")?;
    let info = reader.info();
    let (width, height) = (side(info.width)?, side(info.height)?);
    let size = reader.output_buffer_size().ok_or("the picture is too large")?;
    let mut pixels = vec![0; size];
    let frame = reader.next_frame(&mut pixels).map_err(|_| "a broken PNG")?;
    pixels.truncate(frame.buffer_size());
    let rgb = match frame.color_type {
        png::ColorType::Rgb => pixels,
        png::ColorType::Rgba => pixels.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        png::ColorType::Grayscale => pixels.iter().flat_map(|p| [*p; 3]).collect(),
        _ => return Err("a PNG of another kind"),
    };
    Ok(Picture { width, height, rgb })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_becomes_a_jpeg() {
        let jpeg = to_jpeg(b"P6\n2 1\n255\n\xff\0\0\0\0\xff").unwrap();
        assert!(jpeg.starts_with(&[0xff, 0xd8, 0xff]));
        assert!(jpeg.ends_with(&[0xff, 0xd9]));
    }

    #[test]
    fn a_png_becomes_a_jpeg() {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, 2, 1);
        encoder.set_color(png::ColorType::Rgb);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&[255, 0, 0, 0, 0, 255]).unwrap();
        writer.finish().unwrap();
        assert!(to_jpeg(&file).unwrap().starts_with(&[0xff, 0xd8, 0xff]));
        assert!(to_jpeg(&file[..file.len() - 20]).is_err());
    }

    #[test]
    fn a_broken_picture_is_refused() {
        for bytes in [
            &b""[..],
            b"P5\n1 1\n255\n\0",
            b"P6\n1 1\n255\n\0\0",
            b"P6\n1 1\n255\n\0\0\0\0",
            b"P6\n0 1\n255\n",
            b"P6\n1 99999\n255\n\0\0\0",
            b"P6\n999999999999 1\n255\n",
            b"P6\n1 1\n65535\n\0\0\0\0\0\0",
            b"P61 1 255 \0\0\0",
            b"P6\n1 1\n255",
            b"\x89PNG\r\n\x1a\n",
        ] {
            assert!(to_jpeg(bytes).is_err(), "{bytes:?}");
        }
    }
}
