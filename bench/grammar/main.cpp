// bench_grammar: what guided decoding costs: the time to build a tokenizer's trie, to compile a JSON schema, and to
// compute one mask, over a vocabulary of at least 128k tokens. A smaller tokenizer is grown to that size by tokens that
// are pairs of its own. Masks are timed along documents that satisfy their schemas, one for each token.
// Usage: bench_grammar [FOLDER WITH tokenizer.json] [TOKENS]
#include <bittern/error.h>
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "base/json.h"
#include "text/grammar.h"

namespace bittern {
namespace {

using Clock = std::chrono::steady_clock;

struct Case {
  const char* name;
  const char* schema;
  const char* document;
};

constexpr Case kCases[] = {
    {"flat record",
     R"({"type":"object","additionalProperties":false,"required":["name","age","email","active"],"properties":{
         "name":{"type":"string"},"age":{"type":"integer","minimum":0,"maximum":150},
         "email":{"type":"string","pattern":"^[a-z.]+@[a-z]+[.]com$"},"active":{"type":"boolean"}}})",
     R"({"name": "Marian Evans of Coventry", "age": 41, "email": "marian.evans@example.com", "active": true})"},
    {"nested lists",
     R"({"type":"object","additionalProperties":false,"required":["title","steps"],"properties":{"title":{"type":"string"},
         "steps":{"type":"array","items":{"type":"object","additionalProperties":false,"required":["text","minutes"],
         "properties":{"text":{"type":"string"},"minutes":{"type":"number"},"tags":{"type":"array",
         "items":{"enum":["easy","hot","cold","long"]}}}}}}})",
     R"({"title": "Bread for a long weekend", "steps": [{"text": "Mix flour, water and salt until no dry spots are left.",
 "minutes": 10.5, "tags": ["easy"]}, {"text": "Let the dough rest in a warm place.", "minutes": 90,
 "tags": ["long", "hot"]}]})"},
    {"any object", R"({"type":"object"})",
     R"({"query": "weather in Lisbon", "options": {"days": 3, "units": "metric", "hours": [6, 12, 18]}, "note": null})"},
    {"union of tools",
     R"({"anyOf":[{"type":"object","additionalProperties":false,"required":["name","arguments"],"properties":{
         "name":{"const":"get_weather"},"arguments":{"type":"object","additionalProperties":false,"required":["city"],
         "properties":{"city":{"type":"string"},"days":{"type":"integer"}}}}},
         {"type":"object","additionalProperties":false,"required":["name","arguments"],"properties":{
         "name":{"const":"send_mail"},"arguments":{"type":"object","additionalProperties":false,"required":["to","body"],
         "properties":{"to":{"type":"string","format":"email"},"body":{"type":"string"}}}}}]})",
     R"({"name": "send_mail", "arguments": {"to": "ann@example.org", "body": "The train is late, start without me."}})"},
};

double micros(Clock::time_point begin) {
  return std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file) throw Error(ErrorCode::io, "cannot read " + path);
  return text;
}

/// The tokenizer with tokens added until there are `size`: pairs of its own, without the merges that make them.
std::string grown(const std::string& tokenizer_json, std::size_t size) {
  Json document = Json::parse(tokenizer_json);
  Json& vocab = document["model"]["vocab"];
  std::vector<std::string> words;
  std::int64_t next = 0;
  for (const auto& [word, id] : vocab.items()) {
    words.push_back(word);
    next = std::max(next, id.get<std::int64_t>() + 1);
  }
  for (const Json& token : document["added_tokens"]) next = std::max(next, token["id"].get<std::int64_t>() + 1);
  for (std::size_t step = 1; vocab.size() < size && step < words.size(); step += 7) {
    for (std::size_t i = 0; i + step < words.size() && vocab.size() < size; ++i) {
      if (vocab.emplace(words[i] + words[i + step], next).second) ++next;
    }
  }
  return document.dump();
}

struct Times {
  std::vector<double> all;
  void report(const char* name, double compile) {
    std::sort(all.begin(), all.end());
    double sum = 0;
    for (const double t : all) sum += t;
    const auto at = [&](double part) {
      return all[static_cast<std::size_t>(part * static_cast<double>(all.size() - 1))];
    };
    fmt::print(
        "{:<16} compile {:7.2f} ms   mask mean {:6.1f} us   p50 {:6.1f}   p99 {:6.1f}   max {:6.1f}   ({} masks)\n",
        name, compile / 1000, sum / static_cast<double>(all.size()), at(0.5), at(0.99), all.back(), all.size());
  }
};

void measure(const text::Tokenizer& tokenizer, const std::shared_ptr<const text::TokenTrie>& trie) {
  Times total;
  for (const Case& c : kCases) {
    Times times;
    const auto begin = Clock::now();
    const auto grammar = text::Grammar::compile(trie, text::GrammarKind::json_schema, c.schema);
    const double compile = micros(begin);
    const std::vector<std::int32_t> tokens =
        tokenizer.encode(c.document, {.add_special = false, .parse_special = false});
    for (int repeat = 0; repeat < 20; ++repeat) {
      text::GrammarMatcher matcher(grammar);  // nothing is left of the repeat before: each request starts so
      std::vector<std::uint32_t> allowed;
      for (const std::int32_t token : tokens) {
        const auto start = Clock::now();
        matcher.mask(allowed);
        times.all.push_back(micros(start));
        matcher.accept(token);
      }
    }
    total.all.insert(total.all.end(), times.all.begin(), times.all.end());
    times.report(c.name, compile);
  }
  total.report("all", 0);
}

int run(const std::string& folder, std::size_t size) {
  const std::string json = grown(read_file(folder + "/tokenizer.json"), size);
  const text::Tokenizer tokenizer(folder, [&](std::string_view name) -> std::optional<std::string> {
    return name == "tokenizer.json" ? std::optional(json) : std::nullopt;
  });
  const auto begin = Clock::now();
  const std::vector<std::int32_t> ends = {tokenizer.vocab_size() - 1};
  const auto trie = std::make_shared<const text::TokenTrie>(tokenizer, ends);
  fmt::print("{} tokens; trie {:.0f} ms\n", tokenizer.vocab_size(), micros(begin) / 1000);
  measure(tokenizer, trie);
  return 0;
}

}  // namespace
}  // namespace bittern

int main(int argc, char** argv) {
  try {
    const std::string folder = argc > 1 ? argv[1] : "models/mini";
    return bittern::run(folder, argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 128 * 1024);
  } catch (const std::exception& error) {
    fmt::print(stderr, "bench_grammar: {}\n", error.what());
    return 1;
  }
}
