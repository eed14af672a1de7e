//! A head made of ellipsoids, each of one tissue, and what a scanner makes of it along a plane.
//!
//! Later ellipsoids lie on top of earlier ones. A row of a picture is a line through the head, so each ellipsoid covers one
//! interval of it, which is cheaper than asking for every pixel.

/// What a part of the head is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tissue {
    /// Around the head.
    Air,
    /// Skin and fat.
    Scalp,
    /// The skull.
    Bone,
    /// The outer brain.
    Grey,
    /// The inner brain.
    White,
    /// Liquid.
    Liquid,
    /// What the reader looks for.
    Lesion,
    /// Chalk.
    Chalk,
}

impl Tissue {
    /// Hounsfield units.
    pub fn hounsfield(self) -> i16 {
        match self {
            Self::Air => -1000,
            Self::Scalp => -60,
            Self::Bone => 900,
            Self::Grey => 38,
            Self::White => 28,
            Self::Liquid => 6,
            Self::Lesion => 68,
            Self::Chalk => 400,
        }
    }

    /// Signal in a T1-weighted picture.
    pub fn signal(self) -> i16 {
        match self {
            Self::Air => 0,
            Self::Scalp => 900,
            Self::Bone => 60,
            Self::Grey => 420,
            Self::White => 580,
            Self::Liquid => 150,
            Self::Lesion => 740,
            Self::Chalk => 80,
        }
    }
}

/// A point or direction, in head coordinates: x to the left, y to the back, z to the top, one unit being 100 mm.
pub type Vector = [f64; 3];

struct Ellipsoid {
    tissue: Tissue,
    radii: Vector,
    center: Vector,
    /// Cosine and sine of its turn around z.
    turn: (f64, f64),
}

fn ellipsoid(tissue: Tissue, radii: Vector, center: Vector, degrees: f64) -> Ellipsoid {
    let (sine, cosine) = degrees.to_radians().sin_cos();
    Ellipsoid { tissue, radii, center, turn: (cosine, sine) }
}

impl Ellipsoid {
    /// Where a line is inside: a quadratic equation in the space in which the ellipsoid is the unit sphere.
    fn interval(&self, start: Vector, step: Vector) -> Option<(f64, f64)> {
        let [cx, cy, cz] = self.center;
        let from = self.in_own_space([start[0] - cx, start[1] - cy, start[2] - cz]);
        let along = self.in_own_space(step);
        let (square, half, rest) = (dot(along, along), dot(from, along), dot(from, from) - 1.0);
        let root = half * half - square * rest;
        if root <= 0.0 || square == 0.0 {
            return None;
        }
        let root = root.sqrt();
        Some(((-half - root) / square, (-half + root) / square))
    }

    fn in_own_space(&self, [x, y, z]: Vector) -> Vector {
        let (cosine, sine) = self.turn;
        let [across, deep, high] = self.radii;
        [(x * cosine + y * sine) / across, (y * cosine - x * sine) / deep, z / high]
    }
}

fn dot(one: Vector, other: Vector) -> f64 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

/// A head. Each seed has its lesion elsewhere.
pub struct Head(Vec<Ellipsoid>);

impl Head {
    /// The head of a patient.
    pub fn new(seed: u64) -> Self {
        let mut noise = Noise::new(seed);
        let mut between = |low: f64, high: f64| low + (high - low) * noise.unit();
        let side = if between(0.0, 1.0) < 0.5 { -1.0 } else { 1.0 };
        let place = [side * between(0.22, 0.38), between(-0.45, 0.4), between(-0.1, 0.4)];
        let radius = between(0.06, 0.15);
        let lesion = [radius, radius * between(0.7, 1.3), radius * between(0.7, 1.3)];
        let width = between(0.95, 1.05);
        Self(vec![
            ellipsoid(Tissue::Scalp, [0.10, 0.14, 0.16], [0.0, -0.98, -0.25], 0.0),
            ellipsoid(Tissue::Scalp, [0.78 * width, 0.98, 0.92], [0.0; 3], 0.0),
            ellipsoid(Tissue::Bone, [0.72 * width, 0.92, 0.86], [0.0; 3], 0.0),
            ellipsoid(Tissue::Grey, [0.66 * width, 0.86, 0.80], [0.0; 3], 0.0),
            ellipsoid(Tissue::White, [0.54 * width, 0.72, 0.66], [0.0, 0.0, 0.04], 0.0),
            ellipsoid(Tissue::Grey, [0.30, 0.20, 0.18], [0.0, 0.55, -0.42], 0.0),
            ellipsoid(Tissue::Liquid, [0.09, 0.34, 0.18], [0.16, 0.04, 0.10], 14.0),
            ellipsoid(Tissue::Liquid, [0.09, 0.34, 0.18], [-0.16, 0.04, 0.10], -14.0),
            ellipsoid(Tissue::Liquid, [0.03, 0.14, 0.10], [0.0, 0.02, -0.12], 0.0),
            ellipsoid(Tissue::Chalk, [0.025, 0.03, 0.03], [0.0, 0.24, -0.02], 0.0),
            ellipsoid(Tissue::Lesion, lesion, place, between(0.0, 90.0)),
        ])
    }

    /// The tissue at each pixel of a row that begins at `start` and goes on by `step`.
    pub fn row(&self, start: Vector, step: Vector, pixels: &mut [Tissue]) {
        pixels.fill(Tissue::Air);
        let last = pixels.len() as f64;
        for ellipsoid in &self.0 {
            let Some((from, to)) = ellipsoid.interval(start, step) else { continue };
            let (from, to) = (index(from.ceil(), last), index(to.floor() + 1.0, last));
            if let Some(inside) = pixels.get_mut(from..to) {
                inside.fill(ellipsoid.tissue);
            }
        }
    }
}

/// A place in a row, cut off at its ends.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
fn index(place: f64, last: f64) -> usize {
    place.clamp(0.0, last) as usize
}

/// Random numbers that are the same on every machine and in every version: SplitMix64.
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Noise {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// A number from 0 up to 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number around 0, nearly normal, of about the given spread.
    pub fn around_zero(&mut self, spread: i32) -> i16 {
        let bits = self.bits();
        let sum: i32 = bits.to_le_bytes().into_iter().map(i32::from).sum::<i32>() - 1020;
        // the sum of eight bytes spreads by about 209
        i16::try_from(sum * spread / 209).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_through_the_head_meets_its_parts_in_order() {
        let head = Head::new(1);
        let mut row = [Tissue::Air; 201];
        head.row([-1.0, 0.0, -0.6], [0.01, 0.0, 0.0], &mut row);
        let mut seen = row.to_vec();
        seen.dedup();
        use Tissue::{Air, Bone, Grey, Scalp, White};
        assert_eq!(seen, [Air, Scalp, Bone, Grey, White, Grey, Bone, Scalp, Air]);
        head.row([-1.0, 0.0, 2.0], [0.01, 0.0, 0.0], &mut row);
        assert!(row.iter().all(|tissue| *tissue == Air));
    }

    #[test]
    fn noise_is_the_same_everywhere_and_around_zero() {
        let mut noise = Noise::new(42);
        assert_eq!([noise.bits(), noise.bits()], [13_679_457_532_755_275_413, 2_949_826_092_126_892_291]);
        let values: Vec<i32> = (0..10_000).map(|_| i32::from(noise.around_zero(10))).collect();
        let mean = values.iter().sum::<i32>() / 10_000;
        let square = values.iter().map(|value| value * value).sum::<i32>() / 10_000;
        assert_eq!(mean, 0);
        assert!((80..=120).contains(&square), "{square}");
    }
}
