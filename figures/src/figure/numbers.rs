//! Numbers as figures write them.

/// A count with its thousands set apart: 10,000.
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// An integer with a minus sign that is as wide as a digit.
pub(super) fn signed(number: i64) -> String {
    number.to_string().replace('-', "−")
}

/// A fraction as a percentage: one decimal, or two significant digits below one per cent.
pub(super) fn percent(fraction: f64) -> String {
    match 100.0 * fraction {
        percent if percent >= 1.0 => format!("{percent:.1}%"),
        percent if percent >= 0.1 => format!("{percent:.2}%"),
        percent if percent >= 0.001 => format!("{percent:.3}%"),
        _ => "<0.001%".into(),
    }
}

/// A percentage with one decimal, but none where it rounds to 100: as wide as "99.9" at most.
pub(super) fn accuracy(percent: f64) -> String {
    if percent < 99.95 { format!("{percent:.1}") } else { format!("{percent:.0}") }
}

/// The multiple of a step with the decimals that the step needs, thousands set apart where it needs none.
pub(super) fn multiple(value: f64, step: f64) -> String {
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    match decimals {
        0 if value >= 0.0 => grouped(value.round() as u64),
        _ => format!("{value:.decimals$}").replace('-', "−"),
    }
}

/// A value with three significant digits: written out from a thousandth to a thousand, else with a power of ten.
pub(super) fn significant(value: f64) -> String {
    let text = match value.abs() {
        0.0 => "0".to_owned(),
        size if (1e-3..999.5).contains(&size) => {
            let decimals = (2.0 - size.log10().floor()).max(0.0) as usize;
            format!("{value:.decimals$}")
        }
        _ => {
            let text = format!("{value:.1e}");
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            format!("{digits}·10{}", superscript(exponent.parse().unwrap_or(0)))
        }
    };
    text.replacen('-', "−", 1)
}

/// An exponent in superscript digits.
pub(super) fn superscript(exponent: i32) -> String {
    exponent
        .to_string()
        .chars()
        .map(|character| match character {
            '-' => '⁻',
            '1' => '¹',
            '2' => '²',
            '3' => '³',
            digit => char::from_u32(0x2070 + u32::from(digit) - u32::from('0')).unwrap_or(digit),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped_by_thousands() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }

    #[test]
    fn percentages_keep_what_can_be_read() {
        assert_eq!(percent(0.5307), "53.1%");
        assert_eq!(percent(0.0053), "0.53%");
        assert_eq!(percent(0.000_981), "0.098%");
        assert_eq!(percent(4.5e-6), "<0.001%");
    }

    #[test]
    fn accuracies_have_one_decimal_short_of_all() {
        assert_eq!(accuracy(56.25), "56.2");
        assert_eq!(accuracy(99.949), "99.9");
        assert_eq!(accuracy(99.951), "100");
    }

    #[test]
    fn multiples_have_the_decimals_of_their_step() {
        assert_eq!(multiple(1_000.0, 200.0), "1,000");
        assert_eq!(multiple(3.0 * 0.1, 0.1), "0.3");
        assert_eq!(multiple(0.25, 0.05), "0.25");
        assert_eq!(multiple(-2.0, 1.0), "−2");
    }

    #[test]
    fn values_have_three_digits_that_mean_something() {
        assert_eq!(significant(0.0), "0");
        assert_eq!(significant(0.123_45), "0.123");
        assert_eq!(significant(-12.345), "−12.3");
        assert_eq!(significant(500.0), "500");
        assert_eq!(significant(0.001_234), "0.00123");
        assert_eq!(significant(-1.234e-7), "−1.2·10⁻⁷");
        assert_eq!(significant(12_345.0), "1.2·10⁴");
    }

    #[test]
    fn exponents_are_raised() {
        assert_eq!(superscript(-12), "⁻¹²");
        assert_eq!(superscript(40), "⁴⁰");
    }
}
