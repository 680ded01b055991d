// The bridge does the work.
#include "text/parquet.h"

#include "base/strings.h"
#include "text/bridge_call.h"

namespace bittern::text {

std::string parquet_json_lines(std::string_view name, std::string_view bytes, const std::vector<std::string>& columns) {
  Owned<BridgeBytes> lines;
  const std::string wanted = join(columns, "\n");
  const auto [done, failure] = try_bridge(bittern_bridge_parquet_json_lines, slice(bytes), slice(wanted), lines.out());
  if (done) return to_string(lines);
  const bool codec = failure.kind == "CodecError";
  throw Error(codec ? ErrorCode::unsupported : ErrorCode::invalid_argument,
              "'" + std::string(name) + "': " + failure.message,
              codec ? "write it with Snappy or Zstandard compression" : "");
}

}  // namespace bittern::text
