// make_backend: the one list of backends.
#include <bittern/error.h>

#include <array>

#include "backend/backends.h"
#include "base/strings.h"

namespace bittern {
namespace {

struct BackendRow {
  std::string_view name;
  std::unique_ptr<Backend> (*make)(const BackendOptions&);
};

constexpr std::array<BackendRow, 3> kBackends = {{
    {"cpu", make_cpu_backend},
    {"cuda", make_cuda_backend},
    {"ref", make_ref_backend},
}};

}  // namespace

std::unique_ptr<Backend> make_backend(std::string_view name, const BackendOptions& options) {
  std::vector<std::string> names;
  for (const BackendRow& row : kBackends) {
    if (row.name == name) return row.make(options);
    names.emplace_back(row.name);
  }
  throw Error(ErrorCode::invalid_argument, "there is no backend '" + std::string(name) + "'",
              "the backends are " + join(names, ", "));
}

}  // namespace bittern
