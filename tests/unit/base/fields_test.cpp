// One list of fields: writing, strict reading, enums, nesting and describing.
#include "base/fields.h"

#include "unit/base/test_support.h"

namespace bittern {

enum class Color { red, green };
template <>
struct EnumNames<Color> {
  static constexpr std::pair<Color, std::string_view> values[] = {{Color::red, "red"}, {Color::green, "green"}};
};

namespace {

struct Inner {
  int depth = 1;
  template <class V>
  void fields(V&& v) {
    v("depth", depth);
  }
};

struct Settings {
  float temperature = 1;
  int top_k = 50;
  bool greedy = false;
  std::string name = "x";
  Color color = Color::red;
  std::optional<uint64_t> seed;
  std::vector<int> stop;
  std::vector<Inner> inners;
  Inner inner;
  template <class V>
  void fields(V&& v) {
    v("temperature", temperature, "0 is greedy");
    v("top_k", top_k, "candidates kept");
    v("greedy", greedy);
    v("name", name);
    v("color", color);
    v("seed", seed);
    v("stop", stop);
    v("inners", inners);
    v("inner", inner);
  }
};

Settings read(std::string_view text, UnknownKeys unknown = UnknownKeys::refuse) {
  Settings settings;
  from_json(parse_json(text, "doc"), settings, "settings.json", unknown);
  return settings;
}

std::string read_error(std::string_view text) {
  return error_of(ErrorCode::invalid_argument, [&] { read(text); });
}

TEST(Fields, WriteInOrder) {
  Settings settings;
  settings.stop = {1, 2};
  settings.inners.resize(1);
  EXPECT_EQ(to_json(settings).dump(),
            R"({"temperature":1.0,"top_k":50,"greedy":false,"name":"x","color":"red","seed":null,"stop":[1,2],)"
            R"("inners":[{"depth":1}],"inner":{"depth":1}})");
}

TEST(Fields, RoundTrip) {
  const Settings settings = read(
      R"({"temperature": 0.5, "color": "green", "seed": 9, "stop": [3], "inners": [{}, {"depth": 4}], "inner": {"depth": 7}})");
  EXPECT_EQ(settings.temperature, 0.5f);
  EXPECT_EQ(settings.top_k, 50);
  EXPECT_EQ(settings.color, Color::green);
  EXPECT_EQ(settings.seed, 9u);
  EXPECT_EQ(settings.inners[1].depth, 4);
  EXPECT_EQ(settings.inner.depth, 7);
  EXPECT_EQ(to_json(read(to_json(settings).dump())).dump(), to_json(settings).dump());
}

TEST(Fields, NullEmptiesOptionalsAndKeepsOthers) {
  Settings settings;
  settings.seed = 4;
  from_json(parse_json(R"({"seed": null, "top_k": null})", "doc"), settings, "doc");
  EXPECT_FALSE(settings.seed);
  EXPECT_EQ(settings.top_k, 50);
}

TEST(Fields, UnknownKeysAreRefusedWithASuggestion) {
  EXPECT_TRUE(
      has(read_error(R"({"temprature": 1})"), "settings.json: unknown key 'temprature' (did you mean 'temperature'?)"));
  EXPECT_TRUE(has(read_error(R"({"zzzzzzzz": 1})"), "known keys: temperature, top_k"));
  EXPECT_TRUE(has(read_error(R"({"inner": {"dept": 1}})"), "did you mean 'depth'?"));
  EXPECT_EQ(read(R"({"zzz": 1, "inner": {"y": 2}, "top_k": 3})", UnknownKeys::ignore).top_k, 3);
}

TEST(Fields, WrongTypesNameTheField) {
  EXPECT_TRUE(has(read_error(R"({"top_k": "many"})"), "settings.json: 'top_k' must be an integer"));
  EXPECT_TRUE(has(read_error(R"({"color": "gren"})"), "must be one of: red, green (did you mean 'green'?)"));
  EXPECT_TRUE(has(read_error(R"({"inners": [{}, {"depth": true}]})"), "'inners'[1]: 'depth' must be an integer"));
  EXPECT_TRUE(has(read_error("[]"), "settings.json must be an object"));
}

TEST(Fields, DescribeNamesValueAndHelp) {
  const auto rows = describe(Settings{});
  ASSERT_EQ(rows.size(), 9u);
  EXPECT_EQ(rows[0].name, "temperature");
  EXPECT_EQ(rows[0].value, "1.0");
  EXPECT_EQ(rows[0].help, "0 is greedy");
  EXPECT_EQ(rows[4].value, "\"red\"");
}

}  // namespace
}  // namespace bittern
