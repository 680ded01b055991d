// The client of `bittern bench serve`: sends planned requests to an OpenAI-compatible server over many connections and
// notes when every token came. One thread of coroutines, so that its own cost stays small beside the server's; it
// decides nothing about the load and computes no statistics.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "bench_serve_load.h"

namespace bittern::cli {

struct ServerUrl {
  bool tls = false;
  std::string host, port, path;  // path without a slash at its end: "" or "/api"
};
/// "http://127.0.0.1:8000", with or without a path. Error(invalid_argument) names `--url`.
ServerUrl parse_url(const std::string& text);

struct ClientOptions {
  ServerUrl url;
  std::string api_key;
  std::string ca_file;    // PEM, for https; empty: the system's
  bool insecure = false;  // accept any certificate
  bool chat = false;      // POST /v1/chat/completions, else /v1/completions
  std::string model;
  OrderedJson fields;        // put into every request
  bool min_tokens = false;   // send min_tokens = max_tokens
  double timeout = 300;      // seconds without a byte
  int concurrency = 16;      // requests in flight; 0: each goes out when it arrives
  std::size_t requests = 0;  // to send; 0: until `duration`
  double duration = 0;       // seconds after which no request starts; 0: no limit
};

/// What happened to one request. Times are seconds after the start of the run.
struct RequestRecord {
  double start = 0, end = 0;
  std::vector<double> tokens;  // when each event with text came
  int prompt_tokens = 0;       // by the server's count where it gave one, else as planned
  int cached_tokens = 0;
  int output_tokens = 0;   // by the server's count, else events with text
  bool counted = false;    // whether the server gave counts
  bool cancelled = false;  // abandoned, as planned
  std::string error;       // kind: "connect", "http 429", "cut off", ...; empty: none
  std::string message;

  bool complete() const { return error.empty() && !cancelled; }
  double ttft() const { return tokens.front() - start; }
};

struct LoadResult {
  std::vector<RequestRecord> records;  // in the order in which they ended
  double seconds = 0;                  // from the first start to the last end
  double client_cpu = 0;               // cores that this client used
};

/// Sends requests of `plan` until the options' limits, or until `stop` says so: then those in flight are abandoned and
/// left out. `done` is called after each.
LoadResult run_load(const ClientOptions& options, LoadPlan& plan, const std::function<bool()>& stop,
                    const std::function<void()>& done);

/// The first model of GET /v1/models. Error(not_found) when there is none, Error(io) when the server does not answer.
std::string first_model(const ClientOptions& options);

}  // namespace bittern::cli
