// `bittern convert`: writes a model in another format: one GGUF file, or a directory, the workspace
// (convert_workspace.cpp). Which of the two it is follows from the name of the output; options of the other are
// refused.
#include <bittern/error.h>

#include <array>
#include <cstdio>
#include <memory>
#include <string>

#include "base/json.h"
#include "base/progress.h"
#include "base/strings.h"
#include "convert_workspace.h"
#include "model_source.h"
#include "models/gguf_export.h"
#include "options.h"
#include "verb.h"

namespace bittern::cli {
namespace {

struct ConvertOptions : ConvertWorkspaceOptions {
  std::string type = "f16";
  bool verify = false;
  const CLI::Option *type_option = nullptr, *level_option = nullptr;  // to see which were given
};

struct TypeRow {
  std::string_view name;
  GgufType type;
};

constexpr std::array kTypes = {TypeRow{"q4_0", GgufType::q4_0}, TypeRow{"q8_0", GgufType::q8_0},
                               TypeRow{"q4_k", GgufType::q4_k}, TypeRow{"f16", GgufType::f16},
                               TypeRow{"bf16", GgufType::bf16}};

GgufType type_named(const std::string& name) {
  std::vector<std::string> names;
  for (const TypeRow& row : kTypes) {
    if (row.name == to_lower(name)) return row.type;
    names.emplace_back(row.name);
  }
  throw Error(ErrorCode::invalid_argument, "--type is '" + name + "'; known: " + join(names, ", "),
              did_you_mean(name, names));
}

void refuse_option(const CLI::Option* option, const char* flag, const char* reason) {
  if (option->count() > 0) throw Error(ErrorCode::invalid_argument, std::string(flag) + " " + reason);
}

void check_output(const ConvertOptions& options) {
  namespace fs = std::filesystem;
  refuse_option(options.level_option, "--level", "is for a workspace; a GGUF file is packed for no machine");
  std::error_code ignored;
  if (fs::is_directory(options.output, ignored)) {
    throw Error(ErrorCode::invalid_argument, "--output: " + options.output + " is a directory");
  }
  if (fs::exists(options.output, ignored) && !options.overwrite) {
    throw Error(ErrorCode::invalid_argument, "--output: " + options.output + " exists",
                "add --overwrite to replace it");
  }
  if (fs::equivalent(options.output, options.model, ignored)) {
    throw Error(ErrorCode::invalid_argument, "--output: " + options.output + " is the model itself");
  }
}

Json to_json(const ConvertOptions& options, const GgufExportReport& report) {
  Json tensors = Json::object();
  for (const auto& [name, count] : report.tensors) tensors[name] = count;
  return {{"output", options.output}, {"dry_run", options.dry_run},      {"architecture", report.architecture},
          {"tensors", tensors},       {"parameters", report.parameters}, {"bytes", report.bytes}};
}

void print_text(const ConvertOptions& options, const GgufExportReport& report) {
  std::string tensors;
  for (const auto& [name, count] : report.tensors) {
    tensors += (tensors.empty() ? "" : ", ") + std::to_string(count) + " " + name;
  }
  std::printf("%s %s: %s, %s parameters in %s (%.2f bits each); tensors: %s\n",
              options.dry_run ? "would write" : "wrote", options.output.c_str(), report.architecture.c_str(),
              human_count(static_cast<std::uint64_t>(report.parameters)).c_str(),
              human_bytes(static_cast<std::uint64_t>(report.bytes)).c_str(),
              8.0 * static_cast<double>(report.bytes) / static_cast<double>(report.parameters), tensors.c_str());
}

int convert_to_gguf(const ConvertOptions& options) {
  check_output(options);
  GgufExportOptions exporting;
  exporting.type = type_named(options.type);
  exporting.threads = options.threads;
  exporting.dry_run = options.dry_run;
  std::unique_ptr<Progress> bar;
  std::int64_t shown = 0;
  exporting.progress = [&](std::int64_t done, std::int64_t total) {
    if (!bar) bar = std::make_unique<Progress>("converting", static_cast<std::uint64_t>(total));
    bar->advance(static_cast<std::uint64_t>(done - shown));
    shown = done;
  };
  const GgufExportReport report = export_gguf(open_model(options.model), options.output, exporting);
  if (bar) bar->finish();
  if (options.json) {
    std::printf("%s\n", to_json(options, report).dump(2).c_str());
  } else {
    print_text(options, report);
  }
  return 0;
}

int run_convert(const ConvertOptions& options) {
  if (options.verify) {
    if (!options.output.empty()) {
      throw Error(ErrorCode::invalid_argument, "--verify checks MODEL, a workspace, and writes nothing",
                  "leave out --output");
    }
    return verify_workspace(options.model, options.threads, options.json);
  }
  if (options.output.empty()) {
    throw Error(ErrorCode::invalid_argument, "--output is missing",
                "give a directory for a workspace, or a file whose name ends in .gguf");
  }
  if (options.output.ends_with(".gguf")) return convert_to_gguf(options);
  refuse_option(options.type_option, "--type", "is for a GGUF file; a workspace keeps the formats the model has");
  return convert_to_workspace(options);
}

}  // namespace

std::function<int()> declare_convert(CLI::App& command) {
  auto options = std::make_shared<ConvertOptions>();
  add_model_argument(command, options->model);
  add_option(command, "--output,-o", options->output, "a directory: the workspace; or a file whose name ends in .gguf");
  options->level_option = add_option(command, "--level", options->level,
                                     "workspace: the CPU level to pack for: generic, avx2, avx512, avx512vnni, "
                                     "avx512bf16; without it, this machine's best");
  options->type_option =
      add_option(command, "--type", options->type, "GGUF: how matrices are stored: q4_0, q8_0, q4_k, f16 or bf16");
  add_option(command, "--verify", options->verify, "recompute the checksums of MODEL, a workspace; write nothing");
  add_option(command, "--dry-run", options->dry_run, "check everything and print what would be written");
  add_option(command, "--overwrite", options->overwrite, "replace the output when it exists");
  add_option(command, "--threads", options->threads, "worker threads; 0: the cores this process may use")
      ->check(CLI::Range(0, 1024));
  add_option(command, "--json", options->json, "print JSON");
  return [options] { return run_convert(*options); };
}

}  // namespace bittern::cli
