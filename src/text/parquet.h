// Parquet files as JSON lines, for whoever reads records: the columns that are asked for and nothing else.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace bittern::text {

/// One JSON object a line for every row of the file in `bytes`, with those of `columns` that it has. `name` is for
/// messages. Error(invalid_argument) for damage, for a file that has none of the columns (it names those there are),
/// and for a column of bytes that is not marked as text; Error(unsupported) for a codec other than Snappy and
/// Zstandard.
std::string parquet_json_lines(std::string_view name, std::string_view bytes, const std::vector<std::string>& columns);

}  // namespace bittern::text
