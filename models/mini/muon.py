"""Muon, the optimizer of the weight matrices: momentum whose update is made orthogonal before it is applied.

Main idea: Newton-Schulz iterations push all singular values of the momentum towards 1, so every direction of a matrix
learns at the same speed; at this size it needs about half the tokens of AdamW. Matrices of one shape go through the
iterations as one batch. Embeddings and norms are not its business: they go to AdamW.
"""
import torch
import torch.distributed as dist

COEFFICIENTS = (3.4445, -4.7750, 2.0315)    # of the quintic whose iterations send singular values in (0, 1] near 1


def orthogonalize(g, steps=5):
    """The nearest semi-orthogonal matrix, roughly, of each matrix in g (n, rows, columns)."""
    a, b, c = COEFFICIENTS
    tall = g.shape[1] > g.shape[2]
    x = g.mT if tall else g
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """`lr` is the spectral norm of one update of a square matrix; weight decay is decoupled.

    With several workers each makes the updates of its share of the matrices orthogonal, and they add up their shares.
    """

    def __init__(self, params, lr=0.02, momentum=0.95, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            updates = [self._momentum(p, group["momentum"]) for p in group["params"]]
            self._orthogonalize(updates)
            for p, u in zip(group["params"], updates):
                scale = group["lr"] * max(1.0, p.shape[0] / p.shape[1]) ** 0.5
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(u, alpha=-scale)

    def _momentum(self, p, beta):
        state = self.state[p]
        if "buffer" not in state:
            state["buffer"] = torch.zeros_like(p)
        state["buffer"].lerp_(p.grad, 1 - beta)
        return p.grad.lerp(state["buffer"], beta)

    def _orthogonalize(self, updates):
        """Replaces the updates, a list of matrices, in place."""
        rank, size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        by_shape = {}
        for n, u in enumerate(updates):
            by_shape.setdefault(u.shape, []).append(n)
        for members in by_shape.values():
            mine = members[rank::size]
            results = orthogonalize(torch.stack([updates[n] for n in mine]))
            for n in members:
                updates[n].zero_()
            for n, result in zip(mine, results):
                updates[n].copy_(result)
        add_up(updates)


def add_up(tensors):
    """Sums each tensor of the list over the workers, in place, as one message."""
    if not dist.is_initialized():
        return
    flat = torch.cat([t.flatten() for t in tensors])
    dist.all_reduce(flat)
    for t, part in zip(tensors, flat.split([t.numel() for t in tensors])):
        t.copy_(part.view_as(t))
