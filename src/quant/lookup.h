// Finding a row of a table by the name a user typed, with an error that lists what there is.
#pragma once

#include <bittern/error.h>

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/strings.h"

namespace bittern::quant {

/// The row whose `name` equals `name`. Error(invalid_argument) names `kind`, the value, the nearest and all rows.
template <class Row>
const Row& find_row(std::string_view kind, std::string_view name, std::span<const Row> rows) {
  std::vector<std::string> names;
  for (const Row& row : rows) {
    if (row.name == name) return row;
    names.emplace_back(row.name);
  }
  const std::string guess = did_you_mean(name, names);
  throw Error(ErrorCode::invalid_argument, "there is no " + std::string(kind) + " '" + std::string(name) + "'",
              (guess.empty() ? "" : guess + "; ") + "there is: " + join(names, ", "));
}

}  // namespace bittern::quant
