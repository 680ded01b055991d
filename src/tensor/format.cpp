// Printing of formats.
#include "tensor/format.h"

namespace bittern {

std::string Format::name() const {
  if (kind == FormatKind::dense) return std::string(dtype_name(dtype));
  return "int4 g" + std::to_string(group_size);
}

}  // namespace bittern
