//! CRC-32C (Castagnoli), the checksum a v2 header may carry.

/// Continues a checksum over further bytes; `0` starts one.
pub(crate) fn update(checksum: u32, bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!checksum, |state, &byte| {
        let [low, ..] = state.to_le_bytes();
        TABLE[usize::from(low ^ byte)] ^ (state >> 8)
    })
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0_u8;
    loop {
        let mut entry = index as u32;
        let mut bit = 0;
        while bit < 8 {
            let carry = entry & 1;
            entry = (entry >> 1) ^ (carry * REFLECTED_POLYNOMIAL);
            bit += 1;
        }
        table[index as usize] = entry;
        if index == u8::MAX {
            return table;
        }
        index += 1;
    }
}

const REFLECTED_POLYNOMIAL: u32 = 0x82F6_3B78;
const TABLE: [u32; 256] = table();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_published_examples() {
        // The check value of the CRC catalogue, then the examples of RFC 3720 appendix B.4.
        assert_eq!(update(0, b"123456789"), 0xE306_9283);
        assert_eq!(update(0, &[0; 32]), 0x8A91_36AA);
        assert_eq!(update(0, &[0xFF; 32]), 0x62A8_AB43);
    }

    #[test]
    fn continues_where_it_stopped() {
        assert_eq!(update(update(0, b"1234"), b"56789"), 0xE306_9283);
    }
}
