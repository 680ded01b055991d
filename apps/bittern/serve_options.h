// The command line of `bittern serve`: which models under which names, and the settings of the server.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "options.h"
#include "server/serve_options.h"

namespace bittern::cli {

/// Seconds on the command line, milliseconds in the server, whose defaults these are.
struct ServeSeconds {
  explicit ServeSeconds(const server::ServeOptions& options = {});
  double header, body, write, ping, drain;
};

struct ServeArguments {
  std::vector<std::string> models;  // MODEL or NAME=MODEL; empty: the embedded model
  std::string served_name;          // of the first
  RunOptions run;                   // of every model
  server::ServeOptions serve;
  ServeSeconds seconds;
  std::string max_body = "16MiB";
  std::string api_key_file;
  std::string models_memory;  // cap on all loaded models; empty: none
  std::string log_file = "-";
  bool load_all = false;  // at the start, not at the first request
  bool insecure = false;  // other machines may call without a key
  bool no_web_page = false;
  bool dry_run = false;  // say what would be served, and take nothing
  bool json = false;     // of --dry-run
};

struct ServedModel {
  std::string name, source;
};

void add_serve_options(CLI::App& command, ServeArguments& arguments);
/// Fills `serve` from the rest, reads keys. Error(invalid_argument) names the option, and refuses an address that other
/// machines reach without a key.
void resolve(ServeArguments& arguments);
/// Names: given, or the last part of the path without its extension. Error(invalid_argument) for two of one name.
std::vector<ServedModel> served_models(const ServeArguments& arguments);

}  // namespace bittern::cli
