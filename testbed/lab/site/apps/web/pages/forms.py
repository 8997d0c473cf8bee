"""What a visitor may send."""

from django.forms import ModelForm

from pages.models import Note


class NoteForm(ModelForm):
    """The form fields `text` and `author`, with the limits of the model."""

    class Meta:
        model = Note
        fields = ("text", "author")
