//! Medians and quartiles.

/// The value below which so large a part of the values is, between neighbours where it falls there; 0
/// of nothing.
pub(crate) fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = part.clamp(0.0, 1.0) * sorted.len().saturating_sub(1) as f64;
    let below = sorted.get(place.floor() as usize).copied().unwrap_or_default();
    let above = sorted.get(place.ceil() as usize).copied().unwrap_or_default();
    below + (above - below) * place.fract()
}

/// The value in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The least.
pub(crate) fn least(values: &[f64]) -> f64 {
    quantile(values, 0.0)
}

/// The most.
pub(crate) fn most(values: &[f64]) -> f64 {
    quantile(values, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_between_neighbours() {
        let values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!((least(&values), median(&values), most(&values)), (1.0, 2.5, 4.0));
        assert_eq!(quantile(&values, 0.25), 1.75);
        assert_eq!(median(&[]), 0.0);
    }
}
