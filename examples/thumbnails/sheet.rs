//! The contact sheet: thumbnails in a grid, each with its name and size below.
//!
//! Not a text layout: the lettering is one alphabet of 5 × 7 dots, drawn below as it looks.

use std::path::{Path, PathBuf};

use image::imageops::{FilterType, overlay};
use image::{DynamicImage, ImageResult, Rgb, RgbImage};

/// More than this would be a sheet that no viewer opens.
pub(crate) const MOST: usize = 120;

/// A picture on the sheet.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) dimensions: (u32, u32),
    pub(crate) thumbnail: PathBuf,
}

const PAPER: Rgb<u8> = Rgb([18, 20, 24]);
const MOUNT: Rgb<u8> = Rgb([29, 32, 38]);
const NAME: Rgb<u8> = Rgb([206, 211, 220]);
const SIZE: Rgb<u8> = Rgb([112, 120, 134]);

/// The square a thumbnail is centred in, the rim around it, and the lines below it.
pub(crate) const WINDOW: u32 = 200;
const RIM: u32 = 18;
const LINES: u32 = 44;
const GAP: u32 = 20;

/// Writes the sheet of the first [`MOST`] entries as a PNG.
pub(crate) fn write(path: &Path, entries: &[Entry]) -> ImageResult<()> {
    let entries = &entries[..entries.len().min(MOST)];
    let columns = columns(entries.len());
    let rows = entries.len().div_ceil(columns);
    let (wide, high) = (WINDOW + 2 * RIM, WINDOW + 2 * RIM + LINES);
    let side = |cells: usize, length: u32| 2 * GAP + cells as u32 * (length + GAP);
    let mut sheet = RgbImage::from_pixel(side(columns, wide), side(rows, high), PAPER);
    for (i, entry) in entries.iter().enumerate() {
        let left = 3 * GAP / 2 + (i % columns) as u32 * (wide + GAP);
        let top = 3 * GAP / 2 + (i / columns) as u32 * (high + GAP);
        fill(&mut sheet, left, top, wide, high, MOUNT);
        let picture = image::open(&entry.thumbnail)?;
        let picture = if picture.width().max(picture.height()) > WINDOW {
            picture.resize(WINDOW, WINDOW, FilterType::CatmullRom)
        } else {
            picture
        };
        let x = left + (wide - picture.width()) / 2;
        let y = top + RIM + (WINDOW - picture.height()) / 2;
        overlay(&mut sheet, &on_mount(picture), x.into(), y.into());
        write_line(&mut sheet, left + RIM, top + RIM + WINDOW + 12, 2, &shortened(&entry.name), NAME);
        let (width, height) = entry.dimensions;
        write_line(&mut sheet, left + RIM, top + RIM + WINDOW + 34, 1, &format!("{width} x {height}"), SIZE);
    }
    sheet.save(path)
}

/// A sheet that is a little wider than high, with as few empty places as can be.
fn columns(entries: usize) -> usize {
    let square = (entries as f64).sqrt().ceil().max(1.0) as usize;
    (square..=square + 2)
        .min_by_key(|columns| entries.div_ceil(*columns) * columns - entries)
        .unwrap_or(square)
}

/// What is transparent in the picture shows the mount.
fn on_mount(picture: DynamicImage) -> RgbImage {
    let picture = picture.into_rgba8();
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let [r, g, b, alpha] = picture.get_pixel(x, y).0.map(u32::from);
        let [mount_r, mount_g, mount_b] = MOUNT.0.map(u32::from);
        let blend = |ink: u32, mount: u32| ((ink * alpha + mount * (255 - alpha)) / 255) as u8;
        Rgb([blend(r, mount_r), blend(g, mount_g), blend(b, mount_b)])
    })
}

fn fill(sheet: &mut RgbImage, left: u32, top: u32, width: u32, height: u32, ink: Rgb<u8>) {
    for y in top..top + height {
        for x in left..left + width {
            sheet.put_pixel(x, y, ink);
        }
    }
}

/// As many letters as fit below a thumbnail; of a longer name, its beginning and its end.
fn shortened(name: &str) -> String {
    const FIT: usize = (WINDOW / (6 * 2)) as usize;
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= FIT {
        return name.to_owned();
    }
    let (head, tail) = (&letters[..FIT - 9], &letters[letters.len() - 7..]);
    head.iter().chain(&['.', '.']).chain(tail).collect()
}

fn write_line(sheet: &mut RgbImage, left: u32, top: u32, scale: u32, text: &str, ink: Rgb<u8>) {
    for (i, letter) in text.chars().enumerate() {
        for (row, dots) in glyph(letter).into_iter().enumerate() {
            for (column, dot) in dots.bytes().enumerate() {
                if dot == b'#' {
                    let x = left + (6 * i as u32 + column as u32) * scale;
                    fill(sheet, x, top + row as u32 * scale, scale, scale, ink);
                }
            }
        }
    }
}

/// The seven rows of a letter; a letter that the alphabet lacks looks like `?`.
fn glyph(letter: char) -> [&'static str; 7] {
    let letter = letter.to_ascii_uppercase();
    let find = |letter| ALPHABET.iter().find_map(|(line, rows)| line.find(letter).map(|at| (rows, at)));
    let (rows, at) = find(letter).or_else(|| find('?')).expect("the alphabet has a question mark");
    rows.map(|row| &row[6 * at..6 * at + 5])
}

#[rustfmt::skip]
const ALPHABET: [(&str, [&str; 7]); 4] = [
    ("ABCDEFGHIJKL", [
        " ###  ####   ###  ####  ##### #####  ###  #   #  ###    ### #   # #     ",
        "#   # #   # #   # #   # #     #     #   # #   #   #      #  #  #  #     ",
        "#   # #   # #     #   # #     #     #     #   #   #      #  # #   #     ",
        "##### ####  #     #   # ####  ####  # ### #####   #      #  ##    #     ",
        "#   # #   # #     #   # #     #     #   # #   #   #      #  # #   #     ",
        "#   # #   # #   # #   # #     #     #   # #   #   #   #  #  #  #  #     ",
        "#   # ####   ###  ####  ##### #      #### #   #  ###   ##   #   # ##### ",
    ]),
    ("MNOPQRSTUVWX", [
        "#   # #   #  ###  ####   ###  ####   #### ##### #   # #   # #   # #   # ",
        "## ## #   # #   # #   # #   # #   # #       #   #   # #   # #   # #   # ",
        "# # # ##  # #   # #   # #   # #   # #       #   #   # #   # #   #  # #  ",
        "# # # # # # #   # ####  #   # ####   ###    #   #   # #   # # # #   #   ",
        "#   # #  ## #   # #     # # # # #       #   #   #   # #   # # # #  # #  ",
        "#   # #   # #   # #     #  #  #  #      #   #   #   #  # #  ## ## #   # ",
        "#   # #   #  ###  #      ## # #   # ####    #    ###    #   #   # #   # ",
    ]),
    ("YZ0123456789", [
        "#   # #####  ###    #    ###  #####    #  #####  ###  #####  ###   ###  ",
        "#   #     # #   #  ##   #   #    #    ##  #     #         # #   # #   # ",
        " # #     #  #  ##   #       #   #    # #  ####  #        #  #   # #   # ",
        "  #     #   # # #   #     ##     #  #  #      # ####    #    ###   #### ",
        "  #    #    ##  #   #    #        # #####     # #   #   #   #   #     # ",
        "  #   #     #   #   #   #     #   #    #  #   # #   #   #   #   #     # ",
        "  #   #####  ###   ###  #####  ###     #   ###   ###    #    ###   ###  ",
    ]),
    (".-_ +()&',~?", [
        "                                #   #      ##    #                 ###  ",
        "                          #    #     #    #  #   #                #   # ",
        "                          #   #       #   # #   #            #  #     # ",
        "      ####              ##### #       #    #                # # #    #  ",
        "                          #   #       #   # # #        ##   # ##    #   ",
        " ##                       #    #     #    #  #         #                ",
        " ##         #####               #   #      ## #       #             #   ",
    ]),
];
