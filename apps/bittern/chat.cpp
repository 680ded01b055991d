// `bittern chat`: the conversation in a terminal. A line is a message, """ opens and closes a message of several lines,
// a line that begins with / is a command. Ctrl-C stops the reply; Ctrl-D or /bye ends the chat. From a pipe it reads
// messages line by line and prints the replies alone.
#include <bittern/error.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "base/strings.h"
#include "chat_session.h"
#include "interrupt.h"
#include "line_reader.h"
#include "model_loader.h"
#include "verb.h"

namespace bittern::cli {
namespace {

struct ChatOptions {
  RunOptions run;
  SamplingOptions sampling;
  std::string system;
};

constexpr const char* kHelp =
    "/set NAME VALUE  change a setting (temperature, top-p, max-tokens, system, ...)\n"
    "/show            the settings and the model\n"
    "/clear           forget the conversation\n"
    "/regen           make the last reply again\n"
    "/stats           counts and speeds of the last reply, memory\n"
    "/help            this\n"
    "/bye             end (also Ctrl-D); Ctrl-C stops a reply\n"
    "\"\"\"              begins and ends a message of several lines\n";

class Chat {
 public:
  Chat(server::LoadedModel& model, const ChatOptions& options)
      : model_(model), session_(model, options.sampling, options.system), reader_(history_file()) {}

  int run() {
    if (reader_.interactive()) std::printf("%s  (/help for commands)\n", model_.files().origin().c_str());
    while (const auto line = reader_.read(">>> ")) {
      const std::string text(trim(*line));
      if (text == "/bye" || text == "/exit") return status_;
      if (!text.empty()) guarded([&] { handle(text); });
    }
    if (reader_.interactive()) std::printf("\n");
    return status_;
  }

 private:
  static std::string history_file() {
    const char* home = std::getenv("HOME");
    return home ? std::string(home) + "/.bittern_history" : std::string();
  }

  // A mistake at the prompt is told and the chat goes on; from a pipe it also becomes the exit status.
  template <class Action>
  void guarded(const Action& action) {
    try {
      action();
    } catch (const Error& error) {
      std::fprintf(stderr, "%s\n", error.what());
      if (!reader_.interactive()) status_ = exit_status(error.code());
    }
  }

  void handle(const std::string& text) {
    if (text.starts_with("/")) return command(text);
    const std::string message = text.starts_with("\"\"\"") ? read_block(text.substr(3)) : text;
    stream([&](const ChatSession::OnText& on_text) { session_.say(message, on_text); });
  }

  std::string read_block(std::string block) {
    while (!block.ends_with("\"\"\"")) {
      const auto line = reader_.read("... ");
      if (!line) return block;
      block += (block.empty() ? "" : "\n") + *line;
    }
    block.resize(block.size() - 3);
    return block;
  }

  void command(const std::string& text) {
    const auto space = text.find(' ');
    const std::string name = text.substr(0, space);
    const std::string rest = space == std::string::npos ? "" : std::string(trim(text.substr(space)));
    if (name == "/set") return set(rest);
    if (name == "/show") return show();
    if (name == "/clear") return session_.clear();
    if (name == "/stats") return stats();
    if (name == "/help" || name == "/?") return static_cast<void>(std::fputs(kHelp, stdout));
    if (name == "/regen") return stream([&](const ChatSession::OnText& on_text) { session_.regenerate(on_text); });
    throw Error(ErrorCode::invalid_argument, "unknown command " + name, "/help lists them");
  }

  void set(const std::string& rest) {
    const auto space = rest.find(' ');
    if (rest.empty() || space == std::string::npos) throw Error(ErrorCode::invalid_argument, "write /set NAME VALUE");
    session_.set(rest.substr(0, space), std::string(trim(rest.substr(space))));
  }

  void show() {
    std::printf("model %s (%s) on %s\n%s", model_.files().origin().c_str(),
                model_.model().config().architecture.c_str(), model_.backend().description().c_str(),
                session_.settings().c_str());
  }

  void stats() {
    const std::string last = session_.last_stats();
    const MemoryPlan& plan = model_.engine().plan();
    std::printf("%s%sweights %s, KV cache %s (%s), step %s\n", last.c_str(), last.empty() ? "" : "\n",
                human_bytes(static_cast<std::uint64_t>(plan.weights)).c_str(),
                human_bytes(static_cast<std::uint64_t>(plan.kv_total())).c_str(), plan.kv_format.c_str(),
                human_bytes(static_cast<std::uint64_t>(plan.arena)).c_str());
  }

  template <class Make>
  void stream(const Make& make) {
    const InterruptGuard interrupt;
    make([&](std::string_view text) {
      std::fwrite(text.data(), 1, text.size(), stdout);
      std::fflush(stdout);
      return !interrupt.interrupted();
    });
    std::fputs(reader_.interactive() ? "\n\n" : "\n", stdout);
  }

  server::LoadedModel& model_;
  ChatSession session_;
  LineReader reader_;
  int status_ = 0;
};

int run_chat(const ChatOptions& options) {
  const std::unique_ptr<server::LoadedModel> model = load(options.run);
  if (!model->has_chat_template()) {
    throw Error(ErrorCode::unsupported, model->files().origin() + " has no chat template",
                "give --chat-template FILE, or use `bittern generate`");
  }
  const InterruptGuard prompt_interrupt;  // Ctrl-C at the prompt clears the line
  return Chat(*model, options).run();
}

}  // namespace

std::function<int()> declare_chat(CLI::App& command) {
  auto options = std::make_shared<ChatOptions>();
  options->sampling.params.max_tokens = 512;
  add_model_argument(command, options->run.model);
  add_option(command, "--system", options->system, "system message");
  add_option(command, "--chat-template", options->run.chat_template, "Jinja file that replaces the model's own")
      ->check(CLI::ExistingFile);
  add_sampling_options(command, options->sampling);
  add_engine_options(command, options->run);
  add_device_options(command, options->run);
  return [options] { return run_chat(*options); };
}

}  // namespace bittern::cli
