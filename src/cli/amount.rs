//! Amounts as people write them.

/// `8GiB`, `500 MB` or plain bytes.
///
/// # Errors
/// A sentence that begins with the text.
pub fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text}: write a size like 8GiB, 500MB or 4000000");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(wrong()),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole
            .checked_mul(factor)
            .filter(|n| *n > 0)
            .ok_or_else(wrong);
    }
    let number: f64 = number.parse().map_err(|_| wrong())?;
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a size written with a fraction is not exact; the cast saturates"
    )]
    let bytes = (number * factor as f64) as u64;
    if bytes == 0 || bytes == u64::MAX {
        return Err(wrong());
    }
    Ok(bytes)
}

/// `0.1` or `10%`, in (0, 1].
///
/// # Errors
/// A sentence that begins with the text.
pub fn share(text: &str) -> Result<f64, String> {
    let (number, whole) = match text.strip_suffix('%') {
        Some(percent) => (percent, 100.0),
        None => (text, 1.0),
    };
    let share = number.trim().parse::<f64>().map(|n| n / whole);
    match share {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err(format!("{text}: write a share like 0.1 or 10%")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_shares_read_as_people_write_them() {
        assert_eq!(bytes("8GiB"), Ok(8 << 30));
        assert_eq!(bytes("500 MB"), Ok(500_000_000));
        assert_eq!(bytes("1.5k"), Ok(1500));
        assert_eq!(bytes("4096"), Ok(4096));
        for wrong in [
            "",
            "0",
            "8 Gibb",
            "-1",
            "1e400GiB",
            "99999999999999999999TiB",
        ] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!(share("10%"), Ok(0.1));
        assert_eq!(share("1"), Ok(1.0));
        for wrong in ["0", "1.5", "101%", "x", "NaN"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }
}
