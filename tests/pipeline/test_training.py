"""Training: what it reaches, what it keeps, how it goes on after an interruption, how it ends."""

import importlib.machinery
import json
import math
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import merged
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from stages import check, download, split
from stages import train as train_stage
from stages.autoencoder.core import arrays
from stages.autoencoder.core.errors import UserError
from stages.autoencoder.data import packed_file, split_files
from stages.autoencoder.model import autoencoder, model_file, networks, objectives
from stages.autoencoder.params.train import TrainParams
from stages.autoencoder.training import muon
from stages.autoencoder.training.batches import Batches, suitable_batch_size
from stages.autoencoder.training.loop import Training
from stages.autoencoder.training.preparation import prepare
from tests.support import stage_folders


@pytest.fixture(scope="module")
def digits():
    return np.rint(load_digits().images * (255 / 16)).astype(np.uint8)[:, None]


@pytest.fixture
def settings(params):
    """A function: TrainParams of a small mlp on digits, with changes to the section train."""

    def make(latent_dim=4, **changes):
        small = {"architecture": "mlp", "mlp": {"widths": [32]}, "epochs": 3, "batch_size": 64, "learning_rate": 0.01}
        section = merged(params["train"], small | changes)
        values = {name: params[name] for name in TrainParams.model_fields} | {
            "latent_dim": latent_dim,
            "train": section,
        }
        return TrainParams.model_validate(values)

    return make


def trained(settings, digits):
    training = prepare(settings, digits[:600], digits[600:800])
    list(training.epochs())
    return training


def test_a_linear_autoencoder_reaches_the_error_of_pca(digits):
    """Baldi & Hornik 1989: without hidden layers the optimum is the span of the principal axes."""
    x = torch.from_numpy(digits.reshape(len(digits), -1) / np.float32(255))
    x = x - x.mean(0)
    pca = PCA(8).fit(x.numpy())
    best = np.square(pca.inverse_transform(pca.transform(x.numpy())) - x.numpy()).mean()
    torch.manual_seed(0)
    encoder, decoder = networks.encoder((1, 8, 8), (), (), 8), networks.decoder((1, 8, 8), (), (), 8)
    optimizer = torch.optim.LBFGS(
        [*encoder.parameters(), *decoder.parameters()], max_iter=300, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = (decoder(encoder(x.view(-1, 1, 8, 8))).flatten(1) - x).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert best * (1 - 1e-4) <= closure().item() <= best * 1.02


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("variant", ["undercomplete", "overcomplete", "denoising", "sparse", "variational"])
def test_every_variant_learns(settings, digits, variant, optimizer):
    latent_dim = 80 if variant == "overcomplete" else 4
    chosen = settings(latent_dim, variant=variant, optimizer=optimizer, learning_rate=0.05, epochs=4)
    training = prepare(chosen, digits[:600], digits[600:800])
    untrained = training._validate()
    history = list(training.epochs())
    assert history[-1].valid < 0.7 * untrained
    assert history[-1].train < history[0].train


@pytest.mark.parametrize("binarize", ["dynamic", "static"])
def test_what_trains_on_drawn_pixels_sees_no_grey(workspace, monkeypatch, binarize):
    """The targets are black and white; static ones are the same in each epoch, dynamic ones are not."""
    augment = {"max_images": 0}
    change = {"variant": "variational", "loss": "bce", "binarize": binarize, "augment": augment, "batch_size": 5000}
    workspace({"train": change})
    targets = []

    def error(logits, target):
        targets.append(target)
        return objectives.binary_cross_entropy(logits, target)

    monkeypatch.setitem(objectives.RECONSTRUCTION_LOSSES, "bce", error)
    for stage in (check, download, split, train_stage):
        stage.main()
    assert all(set(target.unique().tolist()) == {0.0, 1.0} for target in targets)
    first, second = (sorted(target.flatten(1).tolist()) for target in targets[::2])
    assert (first == second) == (binarize == "static")
    assert targets[1].equal(targets[3])  # those of validation
    assert model_file.load("data/model.safetensors").about.binarize == binarize


@pytest.fixture
def bound(settings, digits):
    """The objective of a small variational model with three samples, fixed batch norm and images for it."""
    chosen = settings(2, variant="variational", loss="bce", variational={"samples": 3})
    training = prepare(chosen, digits[:600], digits[600:800])
    training.model.eval()
    return training.objective, torch.from_numpy(digits[:5] / np.float32(255))


def weights_of(objective, images, seed):
    """log w of three samples of each code, by torch's distributions."""
    generator = torch.Generator().manual_seed(seed)
    model = objective.model
    code = model.code(images)
    noise = torch.randn(5, 3, 2, generator=generator)
    posterior = torch.distributions.Normal(code.mean[:, None], (code.log_var[:, None] / 2).exp())
    z = posterior.loc + noise * posterior.scale
    logits = model.decoder(z.flatten(0, 1)).view(5, 3, -1)
    likelihood = torch.distributions.Bernoulli(logits=logits, validate_args=False).log_prob(images.flatten(1)[:, None])
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(2)
    return likelihood.sum(2) + prior - posterior.log_prob(z).sum(2)


def test_the_importance_weighted_objective_is_its_bound_and_the_decoder_gets_its_gradient(bound):
    objective, images = bound
    got = objective(images, torch.Generator().manual_seed(4), 1.0)
    log_weights = weights_of(objective, images, 4)
    expected = -log_weights.exp().mean(1).log()
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    decoder = list(objective.model.decoder.parameters())
    for mine, autograd in zip(
        torch.autograd.grad(got.sum(), decoder), torch.autograd.grad(expected.sum(), decoder), strict=True
    ):
        torch.testing.assert_close(mine, autograd, rtol=1e-3, atol=1e-4)


def test_the_encoder_gets_the_gradient_of_the_bound_in_the_mean_with_less_noise(bound):
    objective, images = bound
    last = objective.model.encoder[-1].weight
    mine, plain = [], []
    for seed in range(600):
        generator = torch.Generator().manual_seed(seed)
        mine.append(torch.autograd.grad(objective(images, generator, 1.0).sum(), last)[0])
        loss = -weights_of(objective, images, seed).logsumexp(1).sum()
        plain.append(torch.autograd.grad(loss, last)[0])
    mine, plain = torch.stack(mine).flatten(1), torch.stack(plain).flatten(1)
    difference = mine - plain
    error = difference.std(0) / len(mine) ** 0.5
    assert ((difference.mean(0) / error).square().mean() < 2).item()
    assert mine.var(0).sum() < plain.var(0).sum()


def polar(matrix):
    """The polynomials of Muon on the singular values of a matrix, by NumPy's SVD in float64."""
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    s = s / (1.01 * np.linalg.norm(matrix))
    for a, b, c in muon.STEPS:
        s = a * s + b * s**3 + c * s**5
    return (u * s) @ v


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (64, 64), (40, 300), (300, 40), (1, 9)])
def test_muon_changes_the_singular_values_alone(shape):
    matrix = np.random.default_rng(0).normal(size=shape).astype(np.float32) * 1e-3
    (found,) = muon.orthogonalise([torch.from_numpy(matrix)])
    np.testing.assert_allclose(found.numpy(), polar(matrix.astype(np.float64)), rtol=0, atol=1e-4)
    values = np.linalg.svd(matrix, compute_uv=False) / np.linalg.norm(matrix)
    after = np.linalg.svd(found.numpy(), compute_uv=False)
    assert after.max() < 1.9
    assert after.min() > min(0.18, 100 * values.min())


def test_muon_takes_large_matrices_block_by_block():
    wide, tall = (np.random.default_rng(0).normal(size=size).astype(np.float32) for size in ((130, 200), (200, 130)))
    found = [matrix.numpy() for matrix in muon.orthogonalise([torch.from_numpy(wide), torch.from_numpy(tall)])]
    blocks = [slice(0, 64), slice(64, 128), slice(128, 130)]
    np.testing.assert_allclose(found[0], np.concatenate([polar(wide[rows]) for rows in blocks]), atol=1e-4)
    np.testing.assert_allclose(found[1], np.concatenate([polar(tall[:, rows]) for rows in blocks], 1), atol=1e-4)
    assert muon.orthogonalise([torch.zeros(3, 4)])[0].isfinite().all()


def test_muon_moves_matrices_by_their_momentum_and_vectors_as_adamw_does():
    rng = np.random.default_rng(0)
    start = {"matrix": rng.normal(size=(4, 6)), "kernel": rng.normal(size=(4, 2, 3, 3)), "vector": rng.normal(size=5)}
    weights = {name: torch.nn.Parameter(torch.tensor(value, dtype=torch.float32)) for name, value in start.items()}
    twin = torch.nn.Parameter(weights["vector"].detach().clone())
    optimizer, adamw = muon.Muon(weights.values(), 0.1, 0.01), torch.optim.AdamW([twin], 0.1, weight_decay=0.01)
    momentum = dict.fromkeys(start, 0.0)
    for _ in range(3):
        for name, weight in weights.items():
            gradient = rng.normal(size=weight.shape)
            weight.grad = torch.tensor(gradient, dtype=torch.float32)
            momentum[name] = 0.9 * momentum[name] + gradient
            step = (gradient + 0.9 * momentum[name]).reshape(len(gradient), -1)
            if name != "vector":
                start[name] = start[name] * (1 - 0.1 * 0.01) - 0.1 * polar(step).reshape(start[name].shape)
        twin.grad = weights["vector"].grad.clone()
        optimizer.step()
        adamw.step()
    assert weights["matrix"].grad is not None
    torch.testing.assert_close(weights["vector"], twin)
    for name in ("matrix", "kernel"):
        np.testing.assert_allclose(weights[name].detach(), start[name], atol=1e-4)


def test_augmentation_ends_before_the_last_epochs(settings, digits):
    augment = {"max_images": 600, "translate": 1.0, "rotate": 10.0, "scale": 0.1}
    shares = (0, 0.5, 0.67, 1)
    until = {share: trained(settings(augment=augment | {"until": share}), digits).history for share in shares}
    plain = trained(settings(augment=augment | {"max_images": 0, "until": 1}), digits).history
    assert until[0] == plain
    assert until[0.5][0] == until[0.67][0] == until[1][0] != plain[0]  # of three epochs, these are the first one ...
    assert until[0.67][1] == until[1][1] != until[0.5][1]  # ... and the second


def test_nearly_every_top_k_unit_is_used(settings, digits):
    sparse = {"penalty": "top_k", "weight": 0.0, "k": 10, "encode_k": "auto", "lifetime": 1.0}
    training = trained(settings(variant="sparse", latent_dim=200, sparse=sparse, mlp={"widths": []}), digits)
    codes = training.model.eval().encode(torch.from_numpy(digits).float() / 255)
    assert (codes != 0).any(0).sum() >= 180


def test_lifetime_limits_what_the_objective_decodes_and_not_the_code(settings, digits):
    """NumPy drops all but each unit's 6 largest of 64 activations, a tenth; the code is a ReLU's."""
    sparse = {"penalty": "lifetime", "weight": 9.0, "lifetime": 0.1}
    training = prepare(settings(variant="sparse", latent_dim=20, sparse=sparse), digits[:64], digits[:64])
    model, images = training.model, torch.from_numpy(digits[:64]).float() / 255
    for train in (True, False):
        model.train(train)
        z = model.encoder(images).relu().detach()
        rank = (-z.numpy()).argsort(0, kind="stable").argsort(0)
        expected = objectives.squared_error(model.decoder(torch.from_numpy(np.where(rank < 6, z, 0))), images)
        torch.testing.assert_close(training.objective(images, torch.Generator(), 0.0), expected)
        assert (model.encode(images) != 0).float().mean() > 0.2


def test_the_objective_is_the_sum_of_its_terms(settings, digits):
    images = torch.from_numpy(digits[:32]).float() / 255
    for variant, loss in (("sparse", "mse"), ("variational", "bce")):
        chosen = settings(variant=variant, loss=loss)
        training = prepare(chosen, digits[:64], digits[:64])
        training.model.eval()
        code = training.model.code(images, torch.Generator().manual_seed(3))
        logits = training.model.decoder(code.z)
        if variant == "sparse":
            expected = objectives.squared_error(logits, images) + chosen.train.sparse.weight * code.z.abs().sum(1)
        else:
            expected = objectives.binary_cross_entropy(logits, images) + 0.7 * objectives.gaussian_kl(*code[1:])
        got = training.objective(images, torch.Generator().manual_seed(3), beta=0.7)
        torch.testing.assert_close(got, expected)


def test_the_denoising_input_is_corrupted_and_its_target_clean(settings, digits):
    """With every pixel masked the model sees black images, and is to give the clean ones."""
    chosen = settings(variant="denoising", denoising={"corruption": "masking", "level": 1.0})
    training = prepare(chosen, digits[:64], digits[:64])
    training.model.eval()
    images = torch.from_numpy(digits[:32]).float() / 255
    expected = objectives.squared_error(training.model.decoder(training.model.encode(torch.zeros_like(images))), images)
    torch.testing.assert_close(training.objective(images, torch.Generator().manual_seed(0), 0.0), expected)


def test_kl_warm_up_is_linear_and_ends_at_beta(settings, digits):
    training = prepare(settings(variational={"beta": 2.0, "warmup_epochs": 4}), digits[:64], digits[:64])
    assert [training._beta(epoch) for epoch in (1, 2, 4, 5)] == [0.5, 1.0, 2.0, 2.0]


def test_the_best_epoch_by_validation_error_is_kept(settings, digits):
    training = trained(settings(learning_rate=0.5, epochs=6, max_grad_norm=0), digits)
    best = min(row.valid for row in training.history)
    training.model.load_state_dict(training.best_weights)
    assert training._validate() == best


def test_patience_ends_training_so_many_epochs_after_the_best(settings, digits, monkeypatch):
    errors = iter([5.0, 4.0, 4.5, 4.2, 3.0, 2.0])
    monkeypatch.setattr(Training, "_validate", lambda self: next(errors))
    training = trained(settings(epochs=6, patience=2), digits)
    assert [row.valid for row in training.history] == [5.0, 4.0, 4.5, 4.2]
    assert training.best_result.epoch == 2


def test_a_loss_that_is_no_longer_finite_ends_with_one_line(settings, digits):
    training = prepare(settings(), digits[:600], digits[600:800])
    with torch.no_grad():
        training.model.decoder[-2].bias[0] = math.nan
    message = r"^training: the loss must stay finite; got nan in epoch 1.*lower train.learning_rate"
    with pytest.raises(UserError, match=message):
        list(training.epochs())


@pytest.mark.parametrize("epochs", [1, 2, 40])
@pytest.mark.parametrize("count", [64, 600])
def test_the_learning_rate_peaks_after_a_tenth_of_the_steps_and_ends_near_0(settings, digits, epochs, count):
    training = prepare(settings(epochs=epochs, learning_rate=0.1), digits[:count], digits[600:800])
    steps, rates = epochs * training.batches, []
    for _ in range(steps):
        rates.append(training.optimizer.param_groups[0]["lr"])
        training.optimizer.step()
        training.schedule.step()
    top = int(np.argmax(rates))
    assert abs(top - steps / 10) < 1
    assert 0.1 / 3 < rates[top] <= 0.1
    assert np.all(np.diff(rates[: top + 1]) > 0)
    assert np.all(np.diff(rates[top:]) < 0)
    assert 0 < training.optimizer.param_groups[0]["lr"] <= 0.12 / steps


def test_clipping_bounds_the_step(settings, digits):
    """With plain AdamW a bound of nearly nothing changes little; so it is the gradient itself that is looked at."""
    training = prepare(settings(max_grad_norm=0.001, epochs=1), digits[:600], digits[600:800])
    list(training.epochs())
    norm = torch.stack([p.grad.norm() for p in training.model.parameters()]).norm()
    assert norm <= 0.001 * 1.001


def test_augmentation_is_for_small_training_sets_only(settings, digits):
    augment = {"until": 1.0, "translate": 1.0, "rotate": 10.0, "scale": 0.1}
    small = trained(settings(augment={"max_images": 600} | augment), digits).history
    large = trained(settings(augment={"max_images": 599} | augment), digits).history
    never = trained(settings(augment={"max_images": 0} | augment), digits).history
    assert large == never
    assert small != never


def test_weights_depend_on_the_seed_alone(settings, digits):
    first, again = (trained(settings(), digits).best_weights for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    values = settings().model_dump() | {"seed": 1}
    other = trained(TrainParams.model_validate(values), digits).best_weights
    assert not any(torch.equal(first[name], other[name]) for name in first if name.endswith("weight"))


@pytest.mark.parametrize(("variant", "architecture"), [("denoising", "mlp"), ("variational", "conv")])
def test_resumed_training_ends_in_the_same_bytes_as_uninterrupted(copy, monkeypatch, variant, architecture, caplog):
    """The stage is stopped by an exception after its second epoch, then run again."""
    text = (copy / "params.yaml").read_text()
    for key, value in {"variant": variant, "architecture": architecture, "epochs": 5}.items():
        text = re.sub(rf"(?m)^  {key}: \S+", f"  {key}: {value}", text)
    (copy / "params.yaml").write_text(text)
    outputs = [train_stage.MODEL, train_stage.LOSS, train_stage.STRIP, train_stage.METRICS]
    train_stage.main()
    expected = [path.read_bytes() for path in [*outputs, *sorted(train_stage.EPOCHS.iterdir())]]

    saved, count = train_stage.checkpoint.save, 0

    def stop_after_two(*args):
        nonlocal count
        saved(*args)
        count += 1
        if count == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train_stage, "SAVE_EVERY", 0)
        patch.setattr(train_stage.checkpoint, "save", stop_after_two)
        with pytest.raises(KeyboardInterrupt):
            train_stage.main()
    for path in outputs:
        path.unlink()
    with caplog.at_level("INFO"):
        train_stage.main()
    assert "resumes after epoch 2" in caplog.text
    assert [path.read_bytes() for path in [*outputs, *sorted(train_stage.EPOCHS.iterdir())]] == expected
    assert not train_stage.UNFINISHED.exists()


def test_training_reads_no_test_image(copy, finished):
    """Every byte of every test image is overwritten, in place and under the old digest: the model stays the same."""
    index = arrays.load(Path("data/split/test.safetensors"), "index")[0]["index"]
    held, about = arrays.load(packed_file.RAW)
    held["images"][index] = 255 - held["images"][index]
    arrays.save(packed_file.RAW, held, about)
    train_stage.main()
    for path in ("data/model.safetensors", "plots/loss.csv", "plots/training.png", "metrics/train.json"):
        assert (copy / path).read_bytes() == (finished / path).read_bytes(), path


def test_a_part_refuses_rows_that_are_not_its_own(copy):
    part = split_files.load(split_files.VALID)
    for rows in (len(part.images), slice(0, 3), np.array([0, len(part.images)])):
        if isinstance(rows, slice):
            assert np.array_equal(part.images[rows], arrays.load(packed_file.RAW)[0]["images"][part.index[:3]])
        else:
            with pytest.raises(IndexError):
                part.images[rows]


def test_batches_are_the_same_from_disk_and_from_the_device(copy):
    images = split_files.load(split_files.TRAIN).images
    rows = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:32]
    mapped = Batches(images, torch.device("cpu"))
    resident = Batches(images, torch.device("cpu"))
    resident._resident = torch.from_numpy(images[:])
    assert torch.equal(mapped.take(rows), resident.take(rows))
    assert torch.equal(mapped.take(slice(5, 9)), resident.take(slice(5, 9)))


def test_the_thresholds_are_the_stated_quantile_of_the_validation_images(copy):
    stored = model_file.load(train_stage.MODEL)
    model, about = stored.model, stored.about
    valid = torch.from_numpy(stage_folders.read_images("valid")) / 255
    with torch.no_grad():
        errors = (model(valid) - valid).square().mean((1, 2, 3)).numpy()
        scores = stored.scores["combined"](valid).numpy()
    assert about.anomaly_quantile == 0.99
    assert about.score == "combined"
    for values, threshold in ((errors, about.mse_threshold), (scores, about.threshold)):
        assert (values > threshold).sum() == 2  # 1 % of 144
        assert threshold == pytest.approx(np.quantile(values, 0.99), rel=1e-4)


def test_the_log_says_what_was_built(settings, digits, caplog):
    caplog.set_level("INFO")
    chosen = settings(architecture="conv", conv={"channels": "auto", "widths": [32]})
    training = prepare(chosen, digits[:64], digits[:64])
    weights = sum(weight.numel() for weight in training.model.parameters())
    line = "encoder 8x8x1 - 4x4x16 - 2x2x32 - 1x1x64 - 32 - code of 4, decoder its mirror"
    assert f"{line}, {weights:,} weights; batches of 64" in caplog.text


@pytest.mark.parametrize(
    ("count", "side", "size"),
    [(3600, 28, 128), (99_999, 28, 128), (810, 64, 28), (5, 28, 16), (9999, 128, 128), (9999, 256, 42), (280, 256, 16)],
)
def test_an_automatic_batch_is_smaller_of_few_and_of_large_images(count, side, size):
    assert suitable_batch_size((count, 3, side, side)) == size


def test_a_batch_size_that_is_given_is_kept(settings, digits):
    assert prepare(settings(batch_size=50), digits[:64], digits[:64]).batch_size == 50
    assert prepare(settings(batch_size="auto"), digits[:640], digits[:64]).batch_size == 22


def test_a_progress_bar_changes_no_output(copy, finished, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    before = Path("data/model.safetensors").stat().st_mtime_ns
    train_stage.main()
    assert Path("data/model.safetensors").stat().st_mtime_ns != before
    for path in ("data/model.safetensors", "plots/loss.csv", "plots/training.png", "metrics/train.json"):
        assert (copy / path).read_bytes() == (finished / path).read_bytes(), path


def test_the_state_of_another_training_is_not_taken_up(copy, monkeypatch, caplog):
    monkeypatch.setattr(train_stage, "SAVE_EVERY", 0)
    monkeypatch.setattr(train_stage, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train_stage.main()
    assert train_stage.UNFINISHED.exists()
    monkeypatch.undo()
    monkeypatch.chdir(copy)
    path = copy / "params.yaml"
    path.write_text(path.read_text().replace("seed: 0   ", "seed: 7   ", 1))
    with caplog.at_level("INFO"):
        train_stage.main()
    assert "resumes" not in caplog.text


def test_the_model_file_alone_rebuilds_the_model(copy, monkeypatch):
    images = stage_folders.read_images("valid")
    batch = torch.from_numpy(images).float() / 255
    (copy / "params.yaml").unlink()
    rebuilt, about, *_ = model_file.load(train_stage.MODEL)
    assert rebuilt.spec == autoencoder.Spec((1, 8, 8), 4, (), (16,), "linear")
    assert not rebuilt.training
    error = objectives.squared_error(rebuilt.decoder(rebuilt.encode(batch)), batch).mean().item()
    assert error == pytest.approx(about.valid, rel=1e-5)
    assert about.valid == json.loads(train_stage.METRICS.read_text())["valid"]


@pytest.mark.parametrize("damage", ["absent", "truncated", "altered", "pickle", "other", "format"])
def test_a_model_file_that_is_none_is_refused_in_one_line(copy, damage):
    path = train_stage.MODEL
    content = path.read_bytes()
    if damage == "absent":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[:-100])
    elif damage == "altered":
        path.write_bytes(content.replace(b"latent_dim", b"latent_dum"))
    elif damage == "pickle":
        torch.save({"a": torch.zeros(1)}, path)
    elif damage == "other":
        arrays.save(path, {"a": np.zeros(3)})
    else:
        path.write_bytes(content.replace(b'format\\": 3', b'format\\": 9'))
    with pytest.raises(UserError) as refused:
        model_file.load(path)
    assert str(refused.value).startswith("data/model.safetensors: ")


def test_the_fingerprint_covers_the_stage_that_runs_as_main(tmp_path, monkeypatch):
    """`python -m stages.train` is the module `__main__`; a change of it must not resume an older state."""
    script = types.ModuleType("__main__")
    script.__spec__ = importlib.machinery.ModuleSpec("stages.train", None)
    script.__file__ = str(tmp_path / "train.py")
    monkeypatch.setitem(sys.modules, "__main__", script)
    marks = []
    for text in ("a = 1", "a = 2", "a = 1"):
        (tmp_path / "train.py").write_text(text)
        marks.append(train_stage.checkpoint.compute_fingerprint("{}", []))
    assert marks[0] != marks[1]
    assert marks[0] == marks[2]


def test_a_model_file_must_say_what_it_was_trained_to_undo(copy):
    held, about = arrays.load(train_stage.MODEL, framework="pt")
    del about["corruption"]
    arrays.save(train_stage.MODEL, held, about)
    with pytest.raises(UserError, match=r"must be a model of this project; corruption: Field required"):
        model_file.load(train_stage.MODEL)
