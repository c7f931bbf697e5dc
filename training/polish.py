"""Polish both networks together against a discriminator, on true conversions.

    python -m training.polish --pack ../packed --out ../runs/polish

The distance to one true envelope makes averages. Here half of every batch is one person turned into
another, of which no truth exists: a discriminator (least squares, Mao et al. 2017) must find the
envelope one of the voice's own, the voice being given as its mean envelope and as what the network
has looked up in it; readers (`reader.py`) must find in it what the teacher heard in the source;
and listeners (`listener.py`) must take it for the voice's speaker rather than the source's. They
were trained before on natural envelopes and stay as they are; a little noise on what they are shown
keeps the networks from writing for their weaknesses. The teacher itself listens too (`ear.py`):
what Whisper's encoder makes of a conversion, along the directions of the lessons, is to be what it
makes of the source, and witnesses (`witness.py`) are to take its first layers for the voice's
speaker. What all of them are shown is blended as the engine does it, and holds a share of the
source's own envelope. The content network learns with the timbre network what the latter needs to
know, and goes on saying what the teacher heard. Resumes from the run's last checkpoint.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from evaluation.command_line import run
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from menura.engine.neural import bands
from menura.engine.neural.mapping import LIVELY, UNCARRIED
from menura.engine.neural.mel import MELS
from training import ear
from training.codes import in_place
from training.content import load_content, unexplained
from training.items import FRAMES, LEAD, Items
from training.lessons import directions_of
from training.listener import QUIET, Listener, load_listener
from training.loop import averaged, follow, fresh_seed, keep, rate_at, train
from training.reader import load_reader
from training.timbre import Timbre, begun_with, distance
from training.witness import LOUD, acquainted, load_witness

# Hyper-parameters.
STEPS = 2_000
BATCH = 8
"""Items rebuilt, and as many converted, per step."""
LEARNING_RATE = 2.0e-4
DISCRIMINATOR_RATE = 4.0e-4
FINAL_SHARE = 0.1
"""Share of the rates that is left at the end."""
BETAS = (0.6, 0.95)
CLIP_NORM = 2.0
AVERAGE = 0.998
DISTANCE, MATCHING, ADVERSARIAL = 1.0, 1.0, 0.25
WORDS, SPEAKER = 0.5, 1.0
"""Weights of each reader and of each listener."""
HEARD, WITNESSED = 20.0, 4.0
"""Weights of what Whisper's encoder hears otherwise than in the source, and of the witnesses."""
KEPT = 0.2
"""Share of the source's envelope that critics are shown; less than the engine keeps, so that what
is formed must say the words."""
TAUGHT = 1.0
"""Weight of what the codes must go on saying."""
REFRESH = 800
"""Steps after which the references' codes are made anew."""
NEARER = 0.7
"""By how much a listener's cosine to the voice is to exceed that to the source."""
SHOWN_NOISE, HEARD_NOISE = 0.12, 0.08
"""Nepers of noise on what readers and listeners are shown, and on what Whisper hears."""
PATIENT_CODES = {"both": 0.5, "quick": 0.2, "patient": 1.0}
"""What is polished: the content network and the quick timbre network, or one of the timbre networks
alone, for codes as they are; and the share of codes that are patient."""
WARM_UP = 100
"""Steps in which only the discriminator learns."""
RUNS = Path("../runs")
READERS = [RUNS / name / "reader.safetensors" for name in ("reader", "glance")]
LISTENERS = [RUNS / name / "listener.safetensors" for name in ("listener", "movement")]
WITNESSES = [RUNS / name / "witness.safetensors" for name in ("witness", "witness2")]
"""Who is asked, unless others are named."""
VALIDATE_EVERY = 200
SEED = 11


class Discriminator(nn.Module):
    """Convolutions over time and bands that tell a voice's own envelopes from made ones."""

    def __init__(self) -> None:
        super().__init__()
        sizes = ((4, 24, (5, 5), (1, 2)), (24, 32, (5, 5), (2, 2)), (32, 48, (5, 3), (2, 2)))
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, k, s, (k[0] // 2, k[1] // 2))) for a, b, k, s in sizes
        )
        self.layers.append(weight_norm(nn.Conv2d(48, 48, 3, 1, 1)))
        self.last = weight_norm(nn.Conv2d(48, 1, 3, 1, 1))

    def forward(self, envelope: Tensor, mean: Tensor, found: Tensor, level: Tensor) -> list[Tensor]:
        """Return all layers' outputs, the verdict last.

        envelope: over the level, (batch, time, 64). mean: of the voice's voiced speech, (batch,
        64). found: looked up in the voice, as envelope. level: of the frames, (batch, time).
        """
        centre = mean[:, None]
        shape = envelope.shape
        seen = torch.stack(
            (
                (envelope - centre) * 0.4,
                (envelope - found) * 0.4,
                (centre * 0.2 + 1.0).expand(shape),
                level[..., None].expand(shape),
            ),
            dim=1,
        )[..., : bands.FORMED]
        made = []
        for layer in self.layers:
            seen = nn.functional.leaky_relu(layer(seen), 0.2)
            made.append(seen)
        made.append(self.last(seen))
        return made


def verdict(made: list[Tensor], wanted: float) -> Tensor:
    """Return the least-squares distance of a verdict from what is wanted."""
    return (made[-1] - wanted).square().mean()


def mistaken(to_voice: Tensor, to_source: Tensor) -> Tensor:
    """Return how little conversions are taken for the voice's speaker rather than the source's.

    to_voice, to_source: a critic's cosines, (batch,).
    """
    apart = (NEARER + to_source - to_voice).clamp(min=0.0)
    return (1.0 - to_voice + apart).mean()


@dataclass(frozen=True, slots=True)
class Scene:
    """What was made of BATCH items rebuilt and, after them, as many converted, after LEAD frames.

    out: envelopes over the level, (2 BATCH, FRAMES, 64). heard_as: of conversions, with their share
    of the source's. real, fake: the truth of what was rebuilt, and all that was made, as the
    discriminator is shown them: the voice's mean where nobody speaks. found: looked up in the
    voice, alike. mean: of the voice's voiced speech, (2 BATCH, 64). level: (2 BATCH, FRAMES).
    taught, said: lessons, and what the codes say of them, (2 BATCH, FRAMES, LESSON).
    """

    out: Tensor
    heard_as: Tensor
    real: Tensor
    fake: Tensor
    found: Tensor
    mean: Tensor
    level: Tensor
    taught: Tensor
    said: Tensor


class Trainer:
    """Everything one run holds."""

    def __init__(
        self,
        pack: Path,
        content: Path,
        readers: Sequence[Path],
        listeners: Sequence[Path],
        witnesses: Sequence[Path],
        teacher: Path,
        run: Path,
        seed: int,
        polished: str = "both",
    ) -> None:
        torch.manual_seed(SEED)
        self.run, self.alone = run, polished != "both"
        self.content, prior = load_content(content)
        self.prior = torch.from_numpy(prior)
        share = PATIENT_CODES[polished]
        self.items = Items(pack, None, "train", seed, prior, share)
        held = Items(pack, None, "valid", 99, prior, share)
        held.refresh(self.content)
        self.valid = [held.batch(16, plain=True) for _ in range(4)] if held.clips else []
        self.model, self.discriminator = Timbre(polished == "patient"), Discriminator()
        if self.alone:
            self.content.requires_grad_(False)
        self.readers = [load_reader(path).requires_grad_(False) for path in readers]
        self.listeners = [load_listener(path).requires_grad_(False) for path in listeners]
        self.witnesses = [load_witness(path).requires_grad_(False) for path in witnesses]
        self.ear = ear.Ear(teacher)
        self.directions = torch.from_numpy(directions_of(pack))
        self.middle = max((each.middle for each in self.witnesses), key=len)
        early = ear.Ear(teacher, max(self.middle))
        self.met = [acquainted(witness, early, self.items) for witness in self.witnesses]
        self.rng = np.random.default_rng(seed)
        self.makers = nn.ModuleDict({"timbre": self.model, "content": self.content})
        self.average = {name: value.clone() for name, value in self.makers.state_dict().items()}
        learning = [each for each in self.makers.parameters() if each.requires_grad]
        self.optimiser = torch.optim.AdamW(learning, lr=LEARNING_RATE, betas=BETAS)
        self.discriminator_optimiser = torch.optim.AdamW(
            self.discriminator.parameters(), lr=DISCRIMINATOR_RATE, betas=BETAS
        )
        self.step = 0

    def made(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return envelopes and what was looked up for them, and replace the codes by live ones.

        Conversions, which come after the items rebuilt, are blended as the engine does it.
        """
        with torch.autocast("cpu", torch.bfloat16):
            patient, live = batch["patient"], batch["live"][:, None, None]
            told, _ = self.content(*batch["heard"].split((MELS, 1), dim=-1), patient)
            told = in_place(told.float(), patient)
            batch["code"] = live * told + (1.0 - live) * batch["code"]
            keys = self.model.keys(batch["rows"])
            modulation = self.model.modulation(batch["means"])
            found = self.model.found(batch["code"], batch["controls"], keys, batch["values"])
            told = batch["carried"], batch["controls"], found, modulation
            out, _ = self.model.formed(batch["code"], *told)
            bare, *told = (part[BATCH:] for part in told)
            unseen, _ = self.model.formed(batch["code"][BATCH:], torch.zeros_like(bare), *told)
        rebuilt, seen = out.float().split((BATCH, len(out) - BATCH))
        blended = seen + UNCARRIED * (unseen.float() - seen)
        centre = batch["means"][BATCH:, None, : bands.COUNT]
        blended = centre + LIVELY * (blended - centre)
        return torch.cat((rebuilt, blended)), found.mean(dim=2).float()

    def advance(self, steps: int) -> dict[str, float]:
        """Take one step and return its figures."""
        if self.step % REFRESH == 0 and self.step > WARM_UP and not self.alone:
            self.items.refresh(self.content)
        for optimiser, full in (
            (self.optimiser, LEARNING_RATE),
            (self.discriminator_optimiser, DISCRIMINATOR_RATE),
        ):
            for group in optimiser.param_groups:
                group["lr"] = rate_at(self.step, steps, full, FINAL_SHARE * full, 0)
        rebuilt, turned = self.items.batch(BATCH), self.items.conversions(BATCH)
        scene = self.scene(rebuilt, turned)
        figures = {"discriminator": self._train_discriminator(scene)}
        if self.step >= WARM_UP:
            figures |= self._train_makers(scene, rebuilt, turned)
        self.step += 1
        follow(self.average, self.makers, self.step, AVERAGE)
        return figures

    def scene(self, rebuilt: dict[str, Tensor], turned: dict[str, Tensor]) -> Scene:
        """Make envelopes of items rebuilt and converted, and return what there is to judge."""
        both = {
            name: torch.cat((rebuilt[name], turned[name])) for name in rebuilt if name in turned
        }
        out, found = self.made(both)
        part = slice(LEAD, LEAD + FRAMES)
        out, found = out[:, part], found[:, part].detach()
        heard_as = out[BATCH:] + KEPT * (turned["kept"][:, part] - out[BATCH:])
        level = both["controls"][:, part, 2]
        mean = both["means"][:, : bands.COUNT]
        there = (level > QUIET).float()[..., None]
        # Where nobody speaks nothing is judged.
        quiet = mean[:, None] * (1 - there)
        return Scene(
            out=out,
            heard_as=heard_as,
            real=rebuilt["target"][:, part] * there[:BATCH] + quiet[:BATCH],
            fake=torch.cat((out[:BATCH], heard_as)) * there + quiet,
            found=found * there + quiet,
            mean=mean,
            level=level,
            taught=both["taught"][:, part] * there,
            said=self.content.lesson(both["code"][:, part]),
        )

    def _train_discriminator(self, scene: Scene) -> float:
        """Take the discriminator's step and return its loss."""
        real, mean, found, level = scene.real, scene.mean, scene.found, scene.level
        wrong = mean[:BATCH].roll(1, 0)
        own = self.discriminator(real, mean[:BATCH], found[:BATCH], level[:BATCH])
        lie = self.discriminator(scene.fake.detach(), mean, found, level)
        other = self.discriminator(
            real, wrong, found[:BATCH] - mean[:BATCH, None] + wrong[:, None], level[:BATCH]
        )
        judged = verdict(own, 1.0) + 0.7 * verdict(lie, 0.0) + 0.3 * verdict(other, 0.0)
        self.discriminator_optimiser.zero_grad(set_to_none=True)
        judged.backward()
        nn.utils.clip_grad_norm_(self.discriminator.parameters(), 5.0)
        self.discriminator_optimiser.step()
        return judged.item()

    def _train_makers(
        self, scene: Scene, rebuilt: dict[str, Tensor], turned: dict[str, Tensor]
    ) -> dict[str, float]:
        """Take the step of the networks that are polished and return its figures."""
        self.discriminator.requires_grad_(False)
        lie = self.discriminator(scene.fake, scene.mean, scene.found, scene.level)
        with torch.no_grad():
            own = self.discriminator(
                scene.real, scene.mean[:BATCH], scene.found[:BATCH], scene.level[:BATCH]
            )
        part = slice(LEAD, LEAD + FRAMES)
        near = distance(scene.out[:BATCH], rebuilt["target"][:, part], rebuilt["weight"][:, part])
        matched = torch.stack(
            [
                (a[:BATCH] - b).abs().mean() / b.abs().mean()
                for a, b in zip(lie[:-1], own[:-1], strict=True)
            ]
        ).mean()
        fooled = verdict(lie, 1.0)
        words, taken, figures = self._read_and_listened(scene, turned)
        gone, seen, found = self._heard_and_witnessed(scene, turned)
        forgotten = unexplained(scene.said, scene.taught)
        loss = DISTANCE * near + MATCHING * matched + ADVERSARIAL * fooled
        loss = loss + WORDS * words + SPEAKER * taken + TAUGHT * forgotten
        loss = loss + HEARD * gone + WITNESSED * seen
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.makers.parameters(), CLIP_NORM)
        if bool(torch.isfinite(norm)):
            self.optimiser.step()
        self.discriminator.requires_grad_(True)
        losses = {"near": near, "matched": matched, "fooled": fooled, "forgotten": forgotten}
        return figures | found | {name: value.item() for name, value in losses.items()}

    def _read_and_listened(
        self, scene: Scene, turned: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor, dict[str, float]]:
        """Return what readers miss of what was said, how little conversions are taken by listeners
        for the voice's speaker, and the figures of each."""
        shown = scene.fake + SHOWN_NOISE * torch.randn_like(scene.fake)
        words = taken = torch.zeros(())
        figures = {}
        for number, reader in enumerate(self.readers):
            with torch.autocast("cpu", torch.bfloat16):
                read = reader(shown, scene.level)
            missed = unexplained(read.float(), scene.taught)
            words = words + missed
            figures[f"words_{number}"] = missed.item()
        for number, listener in enumerate(self.listeners):
            cosines = self.likeness(listener, shown[BATCH:], scene.level[BATCH:], turned)
            taken = taken + mistaken(*cosines)
            for name, cosine in zip(("voice", "source"), cosines, strict=True):
                figures[f"{name}_{number}"] = cosine.mean().item()
        return words, taken, figures

    def _heard_and_witnessed(
        self, scene: Scene, turned: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor, dict[str, float]]:
        """Return what is gone of what Whisper hears, how little conversions are taken by witnesses
        for the voice's speaker, and the figures of each."""
        gone, seen_as = self.heard(scene.heard_as, turned)
        seen = torch.zeros(())
        figures = {"gone": gone.item()}
        for number, cosines in enumerate(seen_as):
            seen = seen + mistaken(*cosines) / len(seen_as) ** 0.5
            for name, cosine in zip(("voice", "source"), cosines, strict=True):
                figures[f"{name}_w{number}"] = cosine.mean().item()
        return gone, seen, figures

    def heard(
        self, envelopes: Tensor, turned: dict[str, Tensor]
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Return how much of what Whisper hears in the sources is gone from conversions, as a share
        of its power, and each witness's cosines to voices and to sources, (batch,) each.

        envelopes: of conversions, over the level, (batch, FRAMES, 64).
        """
        pitch, absolute = turned["pitch"].numpy(), turned["absolute"].numpy()
        waves = np.stack([ear.at_its_rate(wave, FRAMES) for wave in turned["wave"].numpy()])
        pulses = ear.excitation(pitch, turned["shares"].numpy(), self.rng)
        excited = np.where(pitch[..., None] > 0, pulses, ear.whitened(waves, absolute))
        shown = envelopes + HEARD_NOISE * torch.randn_like(envelopes)
        shown = (shown + turned["loud"][..., None]).clamp(-40.0, 10.0)
        loud = turned["relative"][:, ::2] > LOUD
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                wanted, _ = self.ear(ear.of_waves(waves, FRAMES))
            told, given = self.ear(ear.of_envelopes(shown, torch.from_numpy(excited)), self.middle)
            vectors = [witness(given, loud) for witness in self.witnesses]
        wanted, told = (rows.float() @ self.directions for rows in (wanted, told))
        source, voice = (number.long() for number in turned["people"].unbind(dim=1))
        gone = ear.lost(wanted, told, loud)
        return gone, [
            ((vector * met[voice]).sum(dim=1), (vector * met[source]).sum(dim=1))
            for vector, met in zip(vectors, self.met, strict=True)
        ]

    def likeness(
        self, listener: Listener, shown: Tensor, level: Tensor, turned: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return a listener's cosines of conversions to voices and to sources, (batch,) each."""
        with torch.autocast("cpu", torch.bfloat16):
            vector = listener(shown, level)
            with torch.no_grad():
                theirs = listener(turned["theirs"], turned["their_level"])
                source = listener(turned["source"], turned["source_level"])
        return (vector * theirs).sum(1), (vector * source).sum(1)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the distance on unseen speakers and how lively the envelopes are: the ratio of
        their deviation over time to the truth's."""
        near, lively = [], []
        with averaged(self.makers, self.average):
            for batch in self.valid:
                bare = dict(batch, carried=torch.zeros_like(batch["carried"]))
                out, _ = self.made(bare)
                near.append(float(distance(out, batch["target"], batch["weight"])))
                loud = batch["weight"] > 0.7
                both = [
                    ((x - x.mean(dim=1, keepdim=True)).abs() * loud).sum()
                    for x in (out, batch["target"])
                ]
                lively.append(float(both[0] / both[1]))
        return {"valid_near": float(np.mean(near)), "valid_lively": float(np.mean(lively))}

    def save(self) -> None:
        """Write averaged weights, weights and optimisers in place of the last checkpoint."""
        full = {
            "makers": self.makers.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "discriminator_optimiser": self.discriminator_optimiser.state_dict(),
            "step": self.step,
        }
        header = {"step": str(self.step)}
        parts: dict[str, dict[str, Tensor]] = {"content": {"prior": self.prior}, "timbre": {}}
        for name, value in self.average.items():
            part, _, own = name.partition(".")
            parts[part][own] = value
        keep(self.run, parts, header, full)

    def resume(self, start: Path, discriminator: Path | None) -> None:
        """Continue from the run's checkpoint, or begin with the trained weights, and with the
        discriminator of another run's checkpoint."""
        last = self.run / "last.pt"
        if last.exists():
            full = torch.load(last, weights_only=True)
            for name in ("makers", "discriminator", "optimiser", "discriminator_optimiser"):
                getattr(self, name).load_state_dict(full[name])
            self.average, self.step = full["average"], full["step"]
        else:
            self.model.load_state_dict(begun_with(self.model, load_file(start)))
            self.average = {name: value.clone() for name, value in self.makers.state_dict().items()}
            if discriminator is not None:
                full = torch.load(discriminator, weights_only=True)
                self.discriminator.load_state_dict(full["discriminator"])
        self.items.refresh(self.content)


def main() -> None:
    """Train until the steps are done; progress on the terminal and in `log.jsonl`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pack", type=Path, default=Path("../packed"))
    parser.add_argument("--content", type=Path, default=Path("../runs/content/content.safetensors"))
    parser.add_argument("--weights", type=Path, default=Path("../runs/timbre/timbre.safetensors"))
    parser.add_argument("--readers", type=Path, nargs="+", default=READERS)
    parser.add_argument("--listeners", type=Path, nargs="+", default=LISTENERS)
    parser.add_argument("--witnesses", type=Path, nargs="+", default=WITNESSES)
    parser.add_argument("--model", type=Path, default=Path("../whisper"), help="the teacher's")
    parser.add_argument(
        "--discriminator", type=Path, help="last.pt of a run whose discriminator goes on"
    )
    parser.add_argument("--out", type=Path, default=Path("../runs/polish"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--polished", choices=list(PATIENT_CODES), default="both")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(
        arguments.pack,
        arguments.content,
        arguments.readers,
        arguments.listeners,
        arguments.witnesses,
        arguments.model,
        arguments.out,
        fresh_seed(),
        arguments.polished,
    )
    trainer.resume(arguments.weights, arguments.discriminator)
    train(trainer, arguments.steps, arguments.out, VALIDATE_EVERY)


if __name__ == "__main__":
    run(main)
