// `bittern env`: what a bug report needs: versions, the machine, and which kernel each operation would use.
#include <bittern/version.h>

#include <cstdio>
#include <memory>

#include "backend/backend.h"
#include "base/json.h"
#include "base/strings.h"
#include "base/sysinfo.h"
#include "models/model.h"
#include "options.h"
#include "table.h"
#include "text/versions.h"
#include "verb.h"

namespace bittern::cli {
namespace {

struct EnvOptions {
  RunOptions run;
  bool json = false;
};

Json report(const EnvOptions& options) {
  const std::unique_ptr<Backend> backend = make_backend(options.run.backend, options.run.device);
  const MemoryInfo memory = memory_info();
  Json json = {{"version", kVersion},
               {"compiler", __VERSION__},
               {"cpu", cpu_model_name()},
               {"cores", usable_cores()},
               {"memory_total", memory.total},
               {"memory_available", memory.available},
               {"cpu_features", cpu_features().names()},
               {"backend", backend->description()},
               {"architectures", supported_architectures()},
               {"text", Json::object()},
               {"kernels", Json::array()}};
  for (const auto& [library, version] : text::library_versions()) json["text"][library] = version;
  for (const KernelChoice& choice : backend->kernel_choices()) {
    json["kernels"].push_back({{"operation", choice.operation}, {"kernel", choice.kernel}});
  }
  return json;
}

std::string joined(const Json& list) {
  std::string text;
  for (const Json& item : list) text += (text.empty() ? "" : " ") + item.get<std::string>();
  return text;
}

void print_text(const Json& json) {
  const auto line = [](const char* name, const std::string& value) {
    std::printf("  %-14s %s\n", name, value.c_str());
  };
  std::printf("bittern %s\n", json.at("version").get<std::string>().c_str());
  for (const auto& [library, version] : json.at("text").items()) line(library.c_str(), version.get<std::string>());
  line("compiler", "g++ " + json.at("compiler").get<std::string>());
  line("cpu", json.at("cpu").get<std::string>());
  line("cores", std::to_string(json.at("cores").get<int>()));
  line("memory", human_bytes(json.at("memory_available").get<std::uint64_t>()) + " free of " +
                     human_bytes(json.at("memory_total").get<std::uint64_t>()));
  line("cpu features", joined(json.at("cpu_features")));
  line("backend", json.at("backend").get<std::string>());
  line("architectures", joined(json.at("architectures")));
  Table table({"operation", "kernel"});
  for (const Json& row : json.at("kernels")) {
    table.row({row.at("operation").get<std::string>(), row.at("kernel").get<std::string>()});
  }
  std::printf("\n%s", table.text().c_str());
}

}  // namespace

std::function<int()> declare_env(CLI::App& command) {
  auto options = std::make_shared<EnvOptions>();
  add_device_options(command, options->run);
  add_option(command, "--json", options->json, "print JSON");
  return [options] {
    const Json json = report(*options);
    options->json ? static_cast<void>(std::printf("%s\n", json.dump(2).c_str())) : print_text(json);
    return 0;
  };
}

}  // namespace bittern::cli
