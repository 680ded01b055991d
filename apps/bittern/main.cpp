// The program: parses the command line, runs one verb, and turns every error into one clear message and an exit status.
// What the verbs do is in a file each.
#include <bittern/error.h>
#include <bittern/version.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "base/strings.h"
#include "verb.h"

namespace {

using bittern::Error;
using bittern::ErrorCode;

// Usage errors end as in most command-line programs; errors of the run have their own statuses (base/error.cpp).
constexpr int kUsageStatus = 2;

int report(const Error& error) {
  std::fprintf(stderr, "bittern: %s\n", error.message().c_str());
  if (!error.hint().empty()) std::fprintf(stderr, "  %s\n", error.hint().c_str());
  return bittern::exit_status(error.code());
}

std::vector<std::string> long_options(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

// "bittern bench limits".
std::string path_of(const CLI::App& command) {
  const CLI::App* parent = command.get_parent();
  return parent == nullptr ? command.get_name() : path_of(*parent) + " " + command.get_name();
}

// CLI11 names the unknown word; we add the nearest right spelling.
int report_usage(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App* command = &app;
  while (!command->get_subcommands().empty()) command = command->get_subcommands().front();
  std::fprintf(stderr, "bittern: %s\n", error.what());
  std::vector<std::string> words = long_options(*command);
  for (const CLI::App* sub : command->get_subcommands({})) words.push_back(sub->get_name());
  for (const std::string& word : command->remaining(true)) {
    const std::string hint = bittern::did_you_mean(word.substr(0, word.find('=')), words);
    if (!hint.empty()) std::fprintf(stderr, "  %s: %s\n", word.c_str(), hint.c_str());
  }
  std::fprintf(stderr, "  see: %s --help\n", path_of(*command).c_str());
  return kUsageStatus;
}

int run(int argc, char** argv) {
  CLI::App app("Compresses, runs and serves large language models.", "bittern");
  app.set_version_flag("--version", std::string("bittern ") + bittern::kVersion);
  app.set_config("--config", "", "read options from a TOML file: a [verb] section with the long option names as keys")
      ->envname("BITTERN_CONFIG");
  app.require_subcommand(1);
  std::vector<std::pair<CLI::App*, std::function<int()>>> commands;
  for (const bittern::cli::Verb& verb : bittern::cli::kVerbs) {
    CLI::App* command = app.add_subcommand(std::string(verb.name), std::string(verb.summary));
    commands.emplace_back(command, verb.declare(*command));
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    return report_usage(app, error);
  }
  for (const auto& [command, body] : commands) {
    if (command->parsed()) return body();
  }
  return kUsageStatus;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const Error& error) {
    return report(error);
  } catch (const std::exception& error) {
    return report(
        Error(ErrorCode::internal, error.what(), "this is a bug of Bittern; please report it with the command"));
  }
}
