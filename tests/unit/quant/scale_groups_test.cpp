// GroupProbe: which linears share a scale, seen in the flow of data.
#include "quant/scale_groups.h"

#include <gtest/gtest.h>

namespace bittern::quant {
namespace {

/// Rows of activations with addresses of their own.
struct Activation {
  std::vector<float> values = std::vector<float>(8, 1.0F);
  Tensor tensor() { return Tensor::of(values.data(), DType::f32, std::int64_t{2}, std::int64_t{4}); }
};

struct ScaleGroups : ::testing::Test {
  nn::Linear a{4, 4, false}, b{4, 4, false}, c{4, 4, false}, d{4, 4, false};
  nn::RmsNorm norm{4, 1e-5};
  Activation normed, other;
  ThreadPool pool{1};
  GroupProbe probe{0, pool};
};

TEST_F(ScaleGroups, KeepsAllThatANormFeedsTogetherWhateverRunsBetween) {
  probe.norm_output(norm, normed.tensor());
  probe.linear_input(a, normed.tensor());
  probe.linear_input(b, other.tensor());
  probe.linear_input(c, normed.tensor());
  ASSERT_EQ(probe.groups().size(), 2u);
  EXPECT_EQ(probe.groups()[0].linears, (std::vector<const nn::Linear*>{&a, &c}));
  EXPECT_EQ(probe.groups()[0].norm, &norm);
  EXPECT_EQ(probe.groups()[0].tokens, 2) << "the shared input counts once";
  EXPECT_EQ(probe.groups()[1].linears, (std::vector<const nn::Linear*>{&b}));
  EXPECT_EQ(probe.groups()[1].norm, nullptr);
}

TEST_F(ScaleGroups, KeepsAllThatALinearFeedsTogether) {
  const std::vector<std::int64_t> rows = {0, 1, 2, 3};
  probe.channel_source(normed.tensor(), a, rows);
  probe.linear_input(b, normed.tensor());
  probe.linear_input(c, other.tensor());
  probe.linear_input(d, normed.tensor());
  ASSERT_EQ(probe.groups().size(), 2u);
  EXPECT_EQ(probe.groups()[0].linears, (std::vector<const nn::Linear*>{&b, &d}));
  EXPECT_EQ(probe.groups()[0].producer, &a);
}

TEST_F(ScaleGroups, KnowsNoSourceThatItHasNotSeen) {
  probe.linear_input(a, other.tensor());
  probe.linear_input(b, other.tensor());
  ASSERT_EQ(probe.groups().size(), 2u);  // each by itself: nothing says that they may share a factor
  EXPECT_EQ(probe.groups()[0].norm, nullptr);
  EXPECT_EQ(probe.groups()[0].producer, nullptr);
}

}  // namespace
}  // namespace bittern::quant
