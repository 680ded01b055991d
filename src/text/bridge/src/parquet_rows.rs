//! Rows of a Parquet file as JSON lines, so that whoever reads JSON lines reads Parquet too. Only the columns that are
//! asked for are decoded. Compression: none, Snappy and Zstandard, which is what published data sets use.

use crate::error::BridgeError;
use parquet::basic::{Compression, ConvertedType, LogicalType, Type as PhysicalType};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::Type;

fn damaged(error: ParquetError) -> BridgeError {
    BridgeError::new("ParquetError", error.to_string())
}

/// The first column of bytes that are not said to be text, at any depth; they would otherwise pass for base64.
fn bytes_without_text(field: &Type) -> Option<&str> {
    if field.is_group() {
        return field.get_fields().iter().find_map(|inner| bytes_without_text(inner));
    }
    let info = field.get_basic_info();
    let is_bytes = matches!(field.get_physical_type(), PhysicalType::BYTE_ARRAY | PhysicalType::FIXED_LEN_BYTE_ARRAY);
    let is_text = matches!(info.logical_type_ref(), Some(LogicalType::String | LogicalType::Enum | LogicalType::Json))
        || matches!(info.converted_type(), ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON);
    (is_bytes && !is_text).then(|| field.name())
}

/// Refuses a codec that is not built in, by its name.
fn check_codecs(metadata: &ParquetMetaData, wanted: &[&str]) -> Result<(), BridgeError> {
    for column in metadata.row_groups().iter().flat_map(|group| group.columns()) {
        let name = column.column_path().parts().first().map_or("", String::as_str);
        let codec = column.compression();
        let known = matches!(codec, Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::ZSTD(_));
        if wanted.contains(&name) && !known {
            return Err(BridgeError::new("CodecError", format!("column '{name}' is compressed with {codec}")));
        }
    }
    Ok(())
}

/// Every row as one JSON object a line, with those of `wanted` that the file has.
pub fn json_lines(bytes: &[u8], wanted: &[&str]) -> Result<Vec<u8>, BridgeError> {
    let reader = SerializedFileReader::new(bytes::Bytes::copy_from_slice(bytes)).map_err(damaged)?;
    let schema = reader.metadata().file_metadata().schema();
    let chosen: Vec<_> = schema.get_fields().iter().filter(|f| wanted.contains(&f.name())).cloned().collect();
    if chosen.is_empty() {
        let names: Vec<_> = schema.get_fields().iter().map(|field| field.name()).collect();
        let wanted = wanted.join("', '");
        return Err(BridgeError::new("ColumnError", format!("no column '{wanted}'; it has: {}", names.join(", "))));
    }
    if let Some(name) = chosen.iter().find_map(|field| bytes_without_text(field)) {
        return Err(BridgeError::new("ColumnError", format!("column '{name}' holds bytes that are not marked as text")));
    }
    check_codecs(reader.metadata(), wanted)?;
    let projection = Type::group_type_builder(schema.name()).with_fields(chosen).build().map_err(damaged)?;
    let mut lines = Vec::new();
    for row in reader.get_row_iter(Some(projection)).map_err(damaged)? {
        let row = row.map_err(damaged)?.to_json_value();
        serde_json::to_writer(&mut lines, &row).map_err(|e| BridgeError::new("ParquetError", e.to_string()))?;
        lines.push(b'\n');
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_parquet_file_is_an_error() {
        for bytes in [&b""[..], b"PAR1", b"PAR1\x00\x00\x00\x00PAR1", b"PAR1\xff\xff\xff\x7fPAR1", &[0x50; 64]] {
            assert_eq!(json_lines(bytes, &["text"]).unwrap_err().class, "ParquetError");
        }
    }
}
